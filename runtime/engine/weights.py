"""Memory that a GGUF file's tensors need, read from its header before anything is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from runtime.engine.ggml import read_gguf


@dataclass(frozen=True)
class Header:
    """Tensors of a GGUF file by name: bytes, (rows, columns), and `enum ggml_type`."""

    sizes: dict[str, int]
    shapes: dict[str, tuple[int, int]]
    types: dict[str, int]


def read_header(path: Path) -> Header:
    """The header of a GGUF file; read once, since the vocabulary in it takes time.

    Raises:
        EngineError: ggml cannot read the file.
    """
    try:
        found = path.stat()
    except OSError:  # ggml says what is wrong
        return _read_header(path, 0, 0)
    return _read_header(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=16)
def _read_header(path: Path, size: int, changed: int) -> Header:
    with read_gguf(path, data=False) as file:
        return Header(file.sizes(), file.shapes(), file.types())


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of a model."""

    layers: tuple[int, ...]  # bytes of each repeating layer's weights, in order
    output: int  # bytes of what follows them; with tied embeddings a copy of those
    cell_values: tuple[int, ...]  # numbers that one token takes in the KV cache, for each layer
    # Numbers of the widest intermediate results of one token: the logits, and those of a
    # feed-forward block and its surroundings.
    row_values: int

    @property
    def n_layers(self) -> int:
        """How llama.cpp counts what can be offloaded: the layers, and the output."""
        return len(self.layers) + 1


def read_sizes(path: Path) -> ModelSizes:
    """The sizes of a GGUF model, by its tensors' names (llama.cpp's, `src/llama-arch.cpp`).

    Raises:
        EngineError: ggml cannot read the file.
    """
    header = read_header(path)
    sizes, shapes = header.sizes, header.shapes
    layers: dict[int, int] = {}
    output = 0
    for name, size in sizes.items():
        if match := re.match(r"blk\.(\d+)\.", name):
            layer = int(match[1])
            layers[layer] = layers.get(layer, 0) + size
        elif name != "token_embd.weight":
            output += size
    if "output.weight" not in sizes:
        output += sizes.get("token_embd.weight", 0)
    vocabulary, width = shapes.get("token_embd.weight", (0, 0))

    # Where keys and values are fused with the queries, there are at most as many as of those.
    cell_values = {
        layer: sum(shapes.get(f"blk.{layer}.attn_{part}.weight", (width, 0))[0] for part in "kv")
        for layer in layers
    }
    feed_forward = max((s[0] for n, s in shapes.items() if ".ffn_up." in n), default=4 * width)
    order = sorted(layers)
    return ModelSizes(
        tuple(layers[layer] for layer in order),
        output,
        tuple(cell_values[layer] for layer in order),
        vocabulary + 3 * feed_forward + 8 * width,
    )
