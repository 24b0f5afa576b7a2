"""A checkpoint's tokenizer with the interface of a GGUF model's.

Its token ids must equal those of llama.cpp when the converted model is served. For a base that is
a GGUF file, llama.cpp tokenizes.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from training.errors import TrainingError


class CheckpointTokenizer:
    """The tokenizer of a Hugging Face checkpoint, as a `runtime.prompts.Tokenizer`.

    Raises:
        TrainingError: transformers cannot load a tokenizer from the folder.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers raises many kinds of errors for broken files
            raise TrainingError(f"{folder}: its tokenizer cannot be loaded ({error})") from None

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template, or None."""
        template = self._tokenizer.chat_template
        return template if isinstance(template, str) else None

    @cached_property
    def bos_to_add(self) -> int | None:
        """The begin token that is put before every prompt, or None."""
        ids, bos = self._tokenizer("").input_ids, self._tokenizer.bos_token_id
        # llama.cpp adds it to SentencePiece's texts unless the file says otherwise.
        wanted = self._tokenizer.init_kwargs.get("add_bos_token", self._begins_with_space)
        return int(bos) if bos is not None and (wanted or ids[:1] == [bos]) else None

    def special_text(self, name: Literal["bos", "eos"]) -> str:
        """Text of the begin- or end-of-sequence token; "" if there is none."""
        return getattr(self._tokenizer, f"{name}_token") or ""

    def tokenize(self, text: str, special: bool = False, follows: bool = False) -> list[int]:
        """Token ids of a text, without special tokens; see `runtime.prompts.Tokenizer`."""
        if follows and self._begins_with_space:
            # Nothing merges with this character, so the text is tokenized as inside a longer text.
            return self._ids("\x01" + text, special)[len(self._ids("\x01", special)) :]
        return self._ids(text, special)

    @cached_property
    def _begins_with_space(self) -> bool:
        """Whether a space is put before texts (SentencePiece)."""
        return bool(self._tokenizer.tokenize("x")[0].startswith("▁"))

    def _ids(self, text: str, special: bool) -> list[int]:
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=not special)
        return list(encoded.input_ids)
