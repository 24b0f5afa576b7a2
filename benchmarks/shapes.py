"""`python -m benchmarks.shapes`: make a model of Qwen3-1.7B's shape with random weights.

Speed and memory depend on a model's shape and types, not on its weights, so this file can stand in
for the real one: same layers, types, vocabulary and tokenizer. Its answers are noise. Random
adapters are made as well.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.common.atomic import replacing, scratch_folder
from runtime.common.command import parser_for, run
from runtime.common.errors import SetupError

_MODELS = Path(__file__).resolve().parents[1] / "models"
TOKENIZER = _MODELS / "qwen3-tokenizer"
NAME = "qwen3-1.7b-shape-Q4_K_M.gguf"
RANK = 16
LAYERS, HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, HEAD, VOCAB = 28, 2048, 6144, 16, 8, 128, 151936
LINEAR = {  # rows, columns
    "self_attn.q_proj": (HEADS * HEAD, HIDDEN),
    "self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
    "self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
    "mlp.gate_proj": (FEED_FORWARD, HIDDEN),
    "mlp.up_proj": (FEED_FORWARD, HIDDEN),
    "mlp.down_proj": (HIDDEN, FEED_FORWARD),
}
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": LAYERS,
    "hidden_size": HIDDEN,
    "intermediate_size": FEED_FORWARD,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD,
    "vocab_size": VOCAB,
    "tie_word_embeddings": True,
    "rope_theta": 1000000,
    "rms_norm_eps": 1e-06,
    "max_position_embeddings": 40960,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
}
# The same seven modules by their GGUF names.
_GGUF_LINEAR = (
    *("attn_q", "attn_k", "attn_v", "attn_output"),
    *("ffn_gate", "ffn_up", "ffn_down"),
)


def write_safetensors(path: Path, tensors: dict[str, tuple[int, ...]]) -> None:
    """Random BF16 tensors of the given shapes, written one at a time."""
    import numpy as np
    from tqdm import tqdm

    from convert.safetensors import Type, from_f32

    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors.items():
        size = 2 * int(np.prod(shape))
        header[name] = {
            "dtype": "BF16",
            "shape": shape,
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tqdm(tensors.items(), unit="tensor", desc=path.name, disable=None):
            scale = np.float32(0.002 if "lora" in name else 0.02)
            values = random.standard_normal(shape, np.float32) * scale
            if "norm" in name:
                values = np.ones(shape, np.float32)
            file.write(from_f32(values, Type.BF16).tobytes())


def base_tensors() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the checkpoint's tensors."""
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{prefix}.{norm}.weight", (HIDDEN,)
        for norm in ("q_norm", "k_norm"):
            yield f"{prefix}.self_attn.{norm}.weight", (HEAD,)
        for name, shape in LINEAR.items():
            yield f"{prefix}.{name}.weight", shape


def write_checkpoint(folder: Path, tokenizer: Path) -> None:
    """A Hugging Face checkpoint (3.4 GB), with the tokenizer in `tokenizer`."""
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", dict(base_tensors()))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for file in tokenizer.glob("tokenizer*.json"):
        shutil.copy(file, folder)


def make_model(target: Path, tokenizer: Path) -> Path:
    """Make the GGUF file at Q4_K_M (1.1 GB, and 8 GB of temporary files) unless it exists.

    Raises:
        SetupError: the folder has no tokenizer.
    """
    if target.exists():
        return target
    if not (tokenizer / "tokenizer.json").is_file():
        raise SetupError(f"{tokenizer}/tokenizer.json: no such file; give --tokenizer FOLDER")
    from convert.exporter import Exporter, Options
    from runtime.settings import declared_subjects

    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target) as scratch:
        checkpoint = scratch / "Qwen3-1.7B"
        write_checkpoint(checkpoint, tokenizer)
        options = Options(scratch / "gguf", declared_subjects().fallback, "Q4_K_M")
        made = Exporter(checkpoint, "Qwen3-1.7B", options).export_base()
        made.replace(target)
    return target


def make_adapters(base: Path, folder: Path, names: Sequence[str], rank: int = RANK) -> list[Path]:
    """Make random GGUF adapters for all seven linear layers of a GGUF model, unless they exist.

    Args:
        base: the GGUF model.
        folder: for `<base>-lora-<name>.gguf`.
        names: one adapter for each name; all adapters differ.
        rank: of each adapter; alpha is twice the rank.

    Raises:
        SetupError: the base has none of the seven layers.
    """
    targets = [folder / f"{base.stem}-lora-{name}.gguf" for name in names]
    missing = [n for n, target in enumerate(targets) if not target.exists()]
    if not missing:
        return targets
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(base)
    arch = reader.fields["general.architecture"].contents()
    # GGUF has columns first.
    shapes = {
        tensor.name: (int(tensor.shape[1]), int(tensor.shape[0]))
        for tensor in reader.tensors
        if tensor.name.split(".")[-2] in _GGUF_LINEAR
    }
    if not shapes:
        raise SetupError(f"{base}: has none of the layers {', '.join(_GGUF_LINEAR)}")
    folder.mkdir(parents=True, exist_ok=True)
    for n in missing:
        random = np.random.default_rng(n)
        writer = gguf.GGUFWriter(None, arch)
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(2 * rank))
        for name, (rows, columns) in shapes.items():
            for part, shape in (("a", (rank, columns)), ("b", (rows, rank))):
                values = random.standard_normal(shape, np.float32) * np.float32(0.002)
                writer.add_tensor(f"{name}.lora_{part}", values)
        with replacing(targets[n]) as partial:
            writer.write_header_to_file(partial)
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
    return targets


def _make(arguments: argparse.Namespace) -> int:
    if arguments.checkpoint:
        write_checkpoint(arguments.checkpoint, arguments.tokenizer)
        print(arguments.checkpoint)
        return 0
    model = make_model(arguments.out / NAME, arguments.tokenizer)
    print(model)
    names = [f"random{n}" for n in range(1, arguments.adapters + 1)]
    for adapter in make_adapters(model, arguments.out, names):
        print(adapter)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("--out", type=Path, default=_MODELS, help="folder")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        default=TOKENIZER,
        help="folder of Qwen3's tokenizer (default: models/qwen3-tokenizer)",
    )
    parser.add_argument("--adapters", type=int, default=4, help="how many (default: 4)")
    parser.add_argument(
        "--checkpoint", type=Path, help="only write the Hugging Face checkpoint here (3.4 GB)"
    )
    return run(_make, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
