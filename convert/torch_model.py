"""Loads a base model into transformers, quietly, from a checkpoint or a GGUF file."""

from __future__ import annotations

import functools
import sys
import warnings
from pathlib import Path
from typing import Any

from convert.errors import ConvertError


def load_torch_model(path: Path, **keywords: Any) -> Any:
    """A causal language model in transformers; of a GGUF file the weights are brought to floats.

    Args:
        path: a checkpoint's folder or a GGUF file.
        keywords: for `from_pretrained`, such as `dtype`.

    Raises:
        ConvertError: torch or transformers is missing, or it cannot be loaded.
    """
    try:
        import torch  # noqa: F401  (transformers only says so when it is used)
        from transformers import AutoModelForCausalLM, modeling_gguf_pytorch_utils
        from transformers.utils.logging import disable_progress_bar, set_verbosity_error
    except ImportError as error:
        raise ConvertError(f"{error}: pip install 'subject-lora-serve[train]'") from None
    set_verbosity_error()
    # What transformers will change is its developers' business and ours, not the user's.
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*deprecated")
    if not sys.stderr.isatty():
        disable_progress_bar()
        # Its bar over a GGUF file's tensors does not heed that.
        bar = modeling_gguf_pytorch_utils.tqdm
        modeling_gguf_pytorch_utils.tqdm = functools.partial(bar, disable=True)
    is_gguf = path.is_file()
    if is_gguf:
        keywords["gguf_file"] = path.name
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path.parent if is_gguf else path, local_files_only=True, **keywords
        )
    except Exception as error:  # whatever is wrong with the files, in transformers' words
        raise ConvertError(f"{path}: transformers cannot load it ({error})") from None
    if is_gguf:
        # Its weights are floats by now, but transformers still calls it quantized, and would
        # not train it.
        model.hf_quantizer, model.is_quantized = None, False
        model.config.quantization_config = None
    return model
