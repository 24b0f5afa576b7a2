"""What an adapter's folder tells of its training that the base does not share: worth a warning.

Tools such as unsloth, axolotl and LLaMA-Factory save the tokenizer that they trained with beside
the adapter. An export has the base's tokenizer and chat template.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from convert.base import Source
from convert.errors import ConvertError
from convert.lora_config import LoraConfig
from convert.tokenizer import added_tokens, chat_template
from runtime.files.bases import base_name

# unsloth trains on quantized copies of bases, which are called so.
_QUANTIZED = ("-unsloth-bnb-4bit", "-bnb-4bit", "-bnb-8bit")


def remarks(folder: Path, config: LoraConfig, base: Source) -> Iterator[str]:
    """Sentences on another base, another chat template, or tokens that the base does not have."""
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
            f"{folder} has another chat template than {base.name}, which is the one that is served;"
            " if it was trained with its own, copy that into the base's folder and export again"
        )
    new = [token for token in added_tokens(folder) if token not in base.added_tokens]
    if new:
        yield (
            f"{folder} has {len(new)} tokens that {base.name} does not have, such as {new[0]!r}:"
            " prompts will not have them either; if it was trained with them, save its tokenizer"
            " into the base's folder and export again"
        )


def _plain(name: str) -> str:
    plain = base_name(name).casefold()
    for ending in _QUANTIZED:
        plain = plain.removesuffix(ending)
    return plain
