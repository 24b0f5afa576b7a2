"""Small GGUF files that tests make."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

DEMO_WIDTH = 576


def write_adapter(path: Path, scale: float = 1.0, width: int = DEMO_WIDTH) -> Path:
    """A rank-4 LoRA adapter with random weights for the query layers of the demo model."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    for layer in range(8):
        for part, shape in (("a", (4, width)), ("b", (width, 4))):
            weight = random.normal(0, 0.2 * scale**0.5, shape).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_{part}", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
