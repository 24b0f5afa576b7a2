"""Warnings about an adapter: another base, chat template or tokens, or unknown settings.

Tools such as unsloth, axolotl and LLaMA-Factory save the tokenizer of the training beside the
adapter. An export has the base's tokenizer and chat template.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from convert.base import Source
from convert.errors import ConvertError
from convert.lora_config import LoraConfig
from convert.tokenizer import added_tokens, chat_template
from runtime.files.bases import base_name

# Endings of the names of quantized copies that unsloth trains on.
_QUANTIZED = ("-unsloth-bnb-4bit", "-bnb-4bit", "-bnb-8bit")


def remarks(folder: Path, config: LoraConfig, base: Source) -> Iterator[str]:
    """Warnings about unknown settings, another base or chat template, or missing tokens."""
    if unknown := config.unknown_keys():
        yield f"{config.path}: ignored {', '.join(unknown)}: check the result with convert.verify"
    trained_on = config.values.get("base_model_name_or_path")
    if isinstance(trained_on, str) and trained_on and _plain(trained_on) != base.name.casefold():
        yield f"{folder} was trained on {trained_on}; it is applied to {base.name}"
    try:
        template = chat_template(folder)
    except ConvertError as error:
        yield str(error)
        template = None
    if template and template != base.chat_template:
        yield (
            f"{folder} has another chat template than {base.name}, whose template is exported; if"
            " it was trained with its own, copy that to the base's folder and export again"
        )
    new = [token for token in added_tokens(folder) if token not in base.added_tokens]
    if new:
        yield (
            f"{folder} has {len(new)} tokens that {base.name} does not have, such as {new[0]!r},"
            " so prompts will not have them; if it was trained with them, save its tokenizer to"
            " the base's folder and export again"
        )


def _plain(name: str) -> str:
    plain = base_name(name).casefold()
    for ending in _QUANTIZED:
        plain = plain.removesuffix(ending)
    return plain
