"""`python -m lab.quantizations`: which type should the demo model be requantized to?

Speed of llama.cpp on each type, as a ratio to the packaged Q4_1 file measured in the same
round, and how far each type's predictions are from the packaged file's: Kullback-Leibler
divergence and top-1 agreement over the tokens of the sample questions.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.common import read_questions
from benchmarks.throughput import Ceiling
from runtime.engine import Context, Model
from runtime.engine.batch import Batch
from runtime.engine.llama import physical_cores
from runtime.files import demo
from runtime.files.quantize import quantize

UNIFORM = "IQ4_NL, uniform"
TYPES = ["Q4_0", "IQ4_NL", UNIFORM, "Q4_K_M", "Q8_0"]
SLOTS, PREFIX, DEPTH = 16, 24, 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.quantizations", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = {"Q4_1 (packaged)": demo.packaged_file()}
        for type_ in tqdm(TYPES, unit="type", desc="quantize", disable=None):
            paths[type_] = Path(folder) / f"{type_}.gguf"
            name = type_.partition(",")[0]
            quantize(demo.packaged_file(), paths[type_], name, uniform=type_ == UNIFORM)
        print(report(paths, arguments.rounds))
    return 0


def report(paths: dict[str, Path], rounds: int) -> str:
    """A Markdown table with a row per file; the first is what the others are compared with."""
    models = {name: Model(path) for name, path in paths.items()}
    ceilings = {name: Ceiling(model, SLOTS, PREFIX, DEPTH) for name, model in models.items()}
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in paths}
    for _ in tqdm(range(rounds), unit="round", disable=None):
        speeds = {name: c.speeds() for name, c in ceilings.items()}
        prefill_1, decode_1 = next(iter(speeds.values()))
        for name, (prefill, decode) in speeds.items():
            ratios[name].append((prefill / prefill_1, decode / decode_1))
    texts = [question["question"] for question in read_questions([], None, 48)]
    expected = None
    lines = [
        "| type | MB | prefill | decode, 16 at once | mean KL | same top token |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, model in models.items():
        log_p = log_probabilities(model, texts)
        expected = log_p if expected is None else expected
        divergence = (np.exp(expected) * (expected - log_p)).sum(axis=1).mean()
        same = (expected.argmax(axis=1) == log_p.argmax(axis=1)).mean()
        prefill, decode = (statistics.median(each) for each in zip(*ratios[name], strict=True))
        lines.append(
            f"| {name} | {paths[name].stat().st_size / 1e6:.0f} | {prefill:.2f} | {decode:.2f} |"
            f" {divergence:.4f} | {same:.1%} |"
        )
    return "\n".join(lines)


def log_probabilities(model: Model, texts: list[str]) -> np.ndarray:
    """log p of each next token for the first 64 tokens of each text: [tokens, vocab]."""
    context = Context(model, 1, 0, 256, physical_cores())
    batch = Batch(context.max_tokens)
    parts = []
    for text in texts:
        tokens = model.tokenize(text)[:64]
        context.clear_all()
        batch.fill(tokens, np.arange(len(tokens)), 0, 1)
        logits = context.run(batch).logits.astype(np.float64)
        highest = logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
        parts.append(logits - highest - total)
    context.close()
    return np.concatenate(parts)


if __name__ == "__main__":
    sys.exit(main())
