"""`python -m lab.conversion`: merge, convert and quantize beside llama.cpp's own tools.

On a checkpoint of Qwen3-1.7B's shape with random BF16 weights and a rank-16 adapter on all
seven linear layers: this project's export, and what a user would run instead: peft's
`merge_and_unload`, llama.cpp's convert_hf_to_gguf.py, and the same quantizer. Each step runs in
a process of its own, whose time and peak memory are taken.

Needs about 20 GB of disk for a while, Qwen3's tokenizer (--tokenizer) and llama.cpp's source
(`make reference`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.shapes import LAYERS, LINEAR, RANK, TOKENIZER, write_checkpoint, write_safetensors
from runtime.common.command import parser_for
from runtime.settings import PROJECT_DIR

MERGE = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from peft import PeftModel
base, lora, out = sys.argv[1:]
model = PeftModel.from_pretrained(
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), lora)
model.merge_and_unload().save_pretrained(out)
AutoTokenizer.from_pretrained(base).save_pretrained(out)
"""
QUANTIZE = """
import sys
from pathlib import Path
from runtime.files.quantize import quantize
quantize(Path(sys.argv[1]), Path(sys.argv[2]), "Q4_K_M")
"""


@dataclass(frozen=True)
class Step:
    seconds: float
    peak_gib: float


def run(*command: str | Path) -> Step:
    """Run a Python process; its time and peak memory."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_DIR), "HF_HUB_OFFLINE": "1"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command[0]} failed: {said.decode()[-2000:]}")
    return Step(time.perf_counter() - started, usage.ru_maxrss / 2**20)


def lora_tensors() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a rank-16 PEFT adapter's tensors."""
    for layer in range(LAYERS):
        for name, (rows, columns) in LINEAR.items():
            module = f"base_model.model.model.layers.{layer}.{name}"
            yield f"{module}.lora_A.weight", (RANK, columns)
            yield f"{module}.lora_B.weight", (rows, RANK)


def write_lora(folder: Path) -> None:
    """A PEFT adapter for the checkpoint."""
    folder.mkdir()
    write_safetensors(folder / "adapter_model.safetensors", dict(lora_tensors()))
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK}
    targets = [name.rpartition(".")[2] for name in LINEAR]
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"target_modules": targets}))


def make(folder: Path, tokenizer: Path) -> None:
    """Write the checkpoint and the adapter."""
    write_checkpoint(folder / "Qwen3-1.7B", tokenizer)
    write_lora(folder / "qwen3-1.7b-lora-history")


def measure(folder: Path, tokenizer: Path, source: Path) -> dict[str, Step]:
    # In a process of its own: a child's peak memory starts at what its parent has.
    run("-m", "lab.conversion", "--make", folder, "--tokenizer", tokenizer)
    base, lora = folder / "Qwen3-1.7B", folder / "qwen3-1.7b-lora-history"
    steps = {}
    out = folder / "ours"
    steps["ours: merge and convert"] = run(
        *("-m", "convert.export_gguf", "--base", base, "--lora", lora, "--subject", "history"),
        *("--type", "BF16", "--output", out),
    )
    ours = out / "Qwen3-1.7B-history-BF16.gguf"
    steps["ours: quantize"] = run("-c", QUANTIZE, ours, folder / "ours.gguf")
    shutil.rmtree(out)
    merged = folder / "merged"
    steps["theirs: merge (peft)"] = run("-c", MERGE, base, lora, merged)
    theirs = folder / "theirs-BF16.gguf"
    script = source / "convert_hf_to_gguf.py"
    steps["theirs: convert"] = run(script, merged, "--outfile", theirs, "--outtype", "bf16")
    shutil.rmtree(merged)
    steps["theirs: quantize"] = run("-c", QUANTIZE, theirs, folder / "theirs.gguf")
    theirs.unlink()
    steps["bare base, ours: convert"] = run(
        *("-m", "convert.export_gguf", "--base", base, "--type", "BF16", "--output", out)
    )
    shutil.rmtree(out)
    steps["bare base, theirs: convert"] = run(
        script, base, "--outfile", theirs, "--outtype", "bf16"
    )
    return steps


def report(steps: dict[str, Step]) -> str:
    lines = ["| step | seconds | peak memory, GiB |", "| --- | --- | --- |"]
    lines += [f"| {n} | {s.seconds:.1f} | {s.peak_gib:.2f} |" for n, s in steps.items()]

    def total(who: str) -> float:
        return sum(s.seconds for n, s in steps.items() if n.startswith(f"{who}:"))

    bare = [s.seconds for n, s in steps.items() if n.startswith("bare base")]
    return "\n".join(
        [
            *lines,
            "",
            f"Merge, convert and quantize: {total('theirs') / total('ours'):.2f} times as fast as"
            f" theirs; converting the bare base: {bare[1] / bare[0]:.2f} times.",
        ]
    )


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER)
    parser.add_argument("--source", type=Path, default=PROJECT_DIR / ".reference")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.make, arguments.tokenizer)
        return 0
    for path in (
        arguments.tokenizer / "tokenizer.json",
        arguments.source / "convert_hf_to_gguf.py",
    ):
        if not path.is_file():
            parser.error(f"{path}: no such file")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        print(report(measure(Path(folder), arguments.tokenizer, arguments.source)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
