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


def replace_string(source: Path, target: Path, key: str, value: bytes) -> Path:
    """A copy of a GGUF file in which a string of its metadata is another one."""
    reader, content = gguf.GGUFReader(source), source.read_bytes()
    field = reader.fields[key]
    at = field.offset + sum(part.nbytes for part in field.parts[:-2])  # where its length stands
    behind = at + field.parts[-2].nbytes + field.parts[-1].nbytes
    end = max(f.offset + sum(p.nbytes for p in f.parts) for f in reader.fields.values())
    last = reader.tensors[-1].field
    end = max(end, last.offset + sum(part.nbytes for part in last.parts))
    header = content[:at] + len(value).to_bytes(8, "little") + value + content[behind:end]
    header += bytes(-len(header) % reader.alignment)
    target.write_bytes(header + content[reader.data_offset :])
    return target
