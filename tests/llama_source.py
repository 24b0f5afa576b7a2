"""llama.cpp's source. Its scripts bring a gguf of their own, so this module imports none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from runtime.settings import PROJECT_DIR

SOURCE = Path(os.environ.get("LLAMA_CPP_SOURCE", PROJECT_DIR / ".reference"))


def know_tiny_tokenizer() -> None:
    """Have llama.cpp's converter take our tiny vocabulary for one that splits words as Qwen's.

    It tells how a vocabulary splits words by a hash of a text's token ids, so it knows published
    vocabularies only, which are so large that writing them would take most of the tests' time.
    """
    sys.path[:0] = [str(SOURCE), str(SOURCE / "gguf-py")]
    from conversion.base import TextModel

    TextModel.get_vocab_base_pre = lambda *_: "qwen2"
