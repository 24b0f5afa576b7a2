"""Loads a base model into transformers from a checkpoint or a GGUF file."""

from __future__ import annotations

import functools
import sys
import warnings
from pathlib import Path
from typing import Any

from convert.errors import ConvertError


def load_torch_model(path: Path, **keywords: Any) -> Any:
    """Load a checkpoint's folder, or a GGUF file with dequantized weights, with transformers.

    Keywords are those of `from_pretrained`, such as `dtype`.

    Raises:
        ConvertError: torch or transformers is missing, or the model cannot be loaded.
    """
    try:
        import torch  # noqa: F401  (transformers reports a missing torch only later)
        from transformers import AutoModelForCausalLM, modeling_gguf_pytorch_utils
        from transformers.utils.logging import disable_progress_bar, set_verbosity_error
    except ImportError as error:
        raise ConvertError(f"{error}: pip install 'subject-lora-serve[train]'") from None
    set_verbosity_error()
    # Not useful to the user.
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*deprecated")
    if not sys.stderr.isatty():
        disable_progress_bar()
        # This does not disable its progress bar for the tensors of GGUF files.
        bar = modeling_gguf_pytorch_utils.tqdm
        modeling_gguf_pytorch_utils.tqdm = functools.partial(bar, disable=True)
    is_gguf = path.is_file()
    if is_gguf:
        keywords["gguf_file"] = path.name
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path.parent if is_gguf else path, local_files_only=True, **keywords
        )
    except Exception as error:  # transformers raises many kinds of errors
        raise ConvertError(f"{path}: transformers cannot load it ({error})") from None
    if is_gguf:
        # The weights are floats now, but transformers still marks the model as quantized and
        # would not train it.
        model.hf_quantizer, model.is_quantized = None, False
        model.config.quantization_config = None
    return model
