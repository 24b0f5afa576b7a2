"""The tensors of a PEFT folder, by the names under which peft saves them.

Names that other ways of saving have changed are brought back to them; a name that peft would not
load is refused.
"""

from __future__ import annotations

import re
from pathlib import Path

from convert.errors import ConvertError
from convert.safetensors import StoredTensor
from convert.stored import read_tensors

_FILES = ("adapter_model.safetensors", "adapter_model.bin")  # peft looks for them in this order
_PREFIX = "base_model.model."
# What wrappers of torch's put into names: torch.compile and FSDP.
_WRAPPERS = re.compile(r"(?<![^.])(?P<wrapper>_orig_mod|_fsdp_wrapped_module)\.")
# Names as they are in the model, with the adapter's name, and not as peft saves them.
_DEFAULT_NAME = re.compile(
    r"\.(?:modules_to_save\.default(?=\.)"
    r"|(?P<part>lora_(?:A|B|embedding_A|embedding_B|magnitude_vector))\.default(?=\.|$))"
)
_OTHER_NAME = re.compile(r"\.lora_(?:A|B|embedding_A|embedding_B)\.(?P<name>[^.]+)(?:\.weight|$)")


def find_weights(folder: Path) -> Path:
    """The file with a PEFT folder's tensors. Raises ConvertError if there is none."""
    for name in _FILES:
        if (folder / name).is_file():
            return folder / name
    raise ConvertError(
        f"{folder}: no {' or '.join(_FILES)} in it; an adapter in another format has to be loaded"
        " and saved once with peft"
    )


def read_weights(path: Path) -> dict[str, StoredTensor]:
    """Tensors by the names of the model's, such as "model.layers.0.mlp.up_proj.lora_A.weight".

    Raises:
        ConvertError: the file cannot be read, has one tensor under two names, or one under a name
            that peft would not load.
    """
    found: dict[str, StoredTensor] = {}
    for stored in read_tensors(path).values():
        if wrapped := _WRAPPERS.search(stored.name):
            raise fault(
                stored,
                f"its name has {wrapped['wrapper']} in it, so peft would not load it; save the"
                " model that torch.compile or FSDP wraps, or take that part out of all names",
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
                f"it is of an adapter called {other['name']!r}, so peft would not load it; save"
                " that adapter alone with peft",
            )
        name = name.removeprefix(_PREFIX)
        if name in found:
            raise fault(stored, f"the file has it a second time as {found[name].name}")
        found[name] = stored
    return found


def fault(stored: StoredTensor, problem: str) -> ConvertError:
    """An error that names a file and a tensor of it."""
    return ConvertError(f"{stored.path}: tensor {stored.name}: {problem}")
