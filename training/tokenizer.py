"""A checkpoint's tokenizer, seen as the runtime sees a GGUF model's.

The ids must be those that llama.cpp will make when the converted model is served; a base
that is a GGUF file is tokenized by llama.cpp itself.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from training.errors import TrainingError


class CheckpointTokenizer:
    """The tokenizer of a Hugging Face checkpoint, as a `runtime.prompts.Tokenizer`.

    Raises:
        TrainingError: the folder has none that transformers can load.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers has errors of its own for each broken file
            raise TrainingError(f"{folder}: its tokenizer cannot be loaded ({error})") from None

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template, or None."""
        template = self._tokenizer.chat_template
        return template if isinstance(template, str) else None

    @cached_property
    def bos_to_add(self) -> int | None:
        """The token that goes in front of every prompt, or None."""
        ids, bos = self._tokenizer("").input_ids, self._tokenizer.bos_token_id
        # llama.cpp puts it before SentencePiece's texts unless it is told not to.
        wanted = self._tokenizer.init_kwargs.get("add_bos_token", self._begins_with_space)
        return int(bos) if bos is not None and (wanted or ids[:1] == [bos]) else None

    def special_text(self, name: Literal["bos", "eos"]) -> str:
        """Text of the begin- or end-of-sequence token, "" if there is none."""
        return getattr(self._tokenizer, f"{name}_token") or ""

    def tokenize(self, text: str, special: bool = False, follows: bool = False) -> list[int]:
        """Token ids of a text, nothing added; see `runtime.prompts.Tokenizer`."""
        if follows and self._begins_with_space:
            # Nothing merges with this character, so what follows it is as it is inside a text.
            return self._ids("\x01" + text, special)[len(self._ids("\x01", special)) :]
        return self._ids(text, special)

    @cached_property
    def _begins_with_space(self) -> bool:
        """Whether texts get a space in front (SentencePiece)."""
        return bool(self._tokenizer.tokenize("x")[0].startswith("▁"))

    def _ids(self, text: str, special: bool) -> list[int]:
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=not special)
        return list(encoded.input_ids)
