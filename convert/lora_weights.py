"""The tensors of a PEFT folder, by peft's names.

Names in other known forms are converted to peft's; a name that peft would not load is an error.
"""

from __future__ import annotations

import re
from pathlib import Path

from convert.errors import ConvertError
from convert.safetensors import StoredTensor
from convert.stored import read_tensors

_FILES = ("adapter_model.safetensors", "adapter_model.bin")  # in peft's order
# Folders beside a PiSSA adapter whose adapter_config.json does not say so.
_PISSA = ("pissa_init", "pissa_backup")
_PREFIX = "base_model.model."
# Added to names by torch's wrappers torch.compile and FSDP.
_WRAPPERS = re.compile(r"(?<![^.])(?P<wrapper>_orig_mod|_fsdp_wrapped_module)\.")
# Names of the model in memory, with the adapter's name, which peft removes when saving.
_DEFAULT_NAME = re.compile(
    r"\.(?:modules_to_save\.default(?=\.)"
    r"|(?P<part>lora_(?:A|B|embedding_A|embedding_B|magnitude_vector))\.default(?=\.|$))"
)
_OTHER_NAME = re.compile(r"\.lora_(?:A|B|embedding_A|embedding_B)\.(?P<name>[^.]+)(?:\.weight|$)")


def find_weights(folder: Path) -> Path:
    """The file with a PEFT folder's tensors. Raises ConvertError if there is none."""
    if folder.name in _PISSA:
        raise ConvertError(
            f"{folder}: LLaMA-Factory's PiSSA matrices, which go with a changed base; export"
            f" {folder.parent / 'pissa_converted'}"
        )
    for name in _FILES:
        if (folder / name).is_file():
            return folder / name
    if parts := sorted(folder.glob("adapter_model-*-of-*")):
        raise ConvertError(
            f"{folder}: its weights are in {len(parts)} parts ({parts[0].name}, ...), which peft"
            " does not load: save them as one adapter_model.safetensors"
        )
    raise ConvertError(
        f"{folder}: no {' or '.join(_FILES)}; load an adapter in another format with peft and"
        " save it"
    )


def read_weights(path: Path) -> dict[str, StoredTensor]:
    """Read tensors by name, such as "model.layers.0.mlp.up_proj.lora_A.weight".

    Raises:
        ConvertError: the file cannot be read, has a tensor under two names, or a name that peft
            would not load.
    """
    found: dict[str, StoredTensor] = {}
    for stored in read_tensors(path).values():
        if wrapped := _WRAPPERS.search(stored.name):
            raise fault(
                stored,
                f"its name has {wrapped['wrapper']} in it, so peft would not load it; save the"
                " model inside torch.compile or FSDP, or remove that part from all names",
            )
        name = _DEFAULT_NAME.sub(lambda m: f".{m['part']}" if m["part"] else "", stored.name)
        if not name.startswith(_PREFIX):
            raise fault(
                stored, f"its name does not begin with {_PREFIX}, so peft would not load it"
            )
        other = _OTHER_NAME.search(name)
        if other and other["name"] != "weight":
            raise fault(
                stored,
                f"it belongs to an adapter called {other['name']!r}, so peft would not load it;"
                " save that adapter alone with peft",
            )
        name = name.removeprefix(_PREFIX)
        if name in found:
            raise fault(stored, f"the file has it a second time as {found[name].name}")
        found[name] = stored
    return found


def fault(stored: StoredTensor, problem: str) -> ConvertError:
    """An error that names a file and a tensor of it."""
    return ConvertError(f"{stored.path}: tensor {stored.name}: {problem}")
