"""Copies of GGUF files with fewer layers.

For tests of how answers are computed, where it does not matter what they say: a third of the
work, and all the more different answers.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

from runtime.engine.ggml import declared, read_gguf

# Of the demo's 30. Without the last ones it would say the same to everything. They become layers
# 0 to 7, for which `ggufs.write_adapter` writes adapters.
KEPT = [0, 1, 2, 3, 26, 27, 28, 29]


def shallow(source: Path, target: Path) -> Path:
    """Write a few layers of the demo, or of an adapter for it."""
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    lib = declared(
        ("gguf_set_kv", None, pointer, pointer),
        ("gguf_set_val_u32", None, pointer, text, ctypes.c_uint32),
    )
    with read_gguf(source) as whole:
        made = lib.gguf_init_empty()
        lib.gguf_set_kv(made, whole._gguf)
        if lib.gguf_find_key(made, b"llama.block_count") >= 0:
            lib.gguf_set_val_u32(made, b"llama.block_count", len(KEPT))
        for tensor in list(whole._tensors()):
            place = ctypes.addressof(tensor)
            if layer := re.fullmatch(rb"blk\.(\d+)\.(.+)", tensor.name):
                if int(layer[1]) not in KEPT:
                    continue
                name = b"blk.%d.%s" % (KEPT.index(int(layer[1])), layer[2])
                lib.ggml_set_name(place, name)
            lib.gguf_add_tensor(made, place)
        written = lib.gguf_write_to_file(made, bytes(target), False)
        lib.gguf_free(made)
    assert written
    return target
