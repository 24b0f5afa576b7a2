"""`python -m lab.kernels`: single calls with llama.cpp's matrix kernels and with ours.

    python -m lab.kernels --model models/qwen3-1.7b-shape-Q4_K_M.gguf

Ours are those of scripts/patches, for matrices and for attention; each is tried with the weights as
they are in the file, mapped, and in the order into which llama.cpp repacks them. Every way is a
process of its own; rounds take turns, in the opposite order every other time. A prefill call
computes prompts of up to 128 tokens, a decode call one token for each slot, with up to 8 tokens
before it; "1 x 40 after 1500" is 40 tokens for one slot after 1,500 others. Figures are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.common.command import parser_for, run
from runtime.common.errors import SetupError
from runtime.common.machine import cpu_name, cpus

if TYPE_CHECKING:
    import numpy as np

PREFILL, PROMPT = (64, 128, 256, 512), 128
DECODE = (1, 2, 4, 8, 16, 32, 48, 64, 96)
# Slots, tokens of each in a call, and tokens before them.
LONG = ((1, 40, 1500), (1, 1, 1500), (16, 1, 200))
NONE, VNNI, AMX = (
    {"GGML_KQUANT_VNNI": "0", "GGML_ATTENTION_AVX512": "0"},
    {"GGML_KQUANT_VNNI": "2", "GGML_KQUANT_AMX": "0"},
    {"GGML_KQUANT_VNNI": "2", "GGML_KQUANT_AMX": "1"},
)
# Name, whether the file is mapped, which of our kernels.
WAYS = (
    ("llama.cpp's kernels, repacked", False, NONE),
    ("llama.cpp's kernels, mapped", True, NONE),
    ("ours with VNNI, mapped", True, VNNI),
    ("ours with VNNI, repacked", False, VNNI),
    ("ours with AMX, mapped", True, AMX),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--threads", type=int, default=cpus().cores, help="default: all cores")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--inside", choices=["mapped", "repacked"], help=argparse.SUPPRESS)
    return run(_compare, parser.parse_args(argv), "stopped")


def _compare(options: argparse.Namespace) -> int:
    from runtime.engine.kernels import has_kquant_kernel
    from runtime.engine.library import cpu_features

    if options.inside:
        found = _measure(options.model, options.threads, options.inside == "mapped")
        print(json.dumps(found))
        return 0
    if not has_kquant_kernel():
        raise SetupError("this build of llama.cpp has no kernel of ours for this CPU")
    ways = WAYS if "AMX_INT8" in cpu_features() else WAYS[:-1]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name, *_ in ways}
    for number in range(options.rounds):
        for name, mapped, kernel in ways[:: -1 if number % 2 else 1]:
            rounds[name].append(_in_a_process(options, mapped, kernel))
    print(f"{options.model.name}, {options.threads} threads, {cpu_name()}: tokens/s\n")
    columns = list(rounds[ways[0][0]][0])
    print("| kernels, weights | " + " | ".join(columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for name, results in rounds.items():
        medians = [statistics.median(result[column] for result in results) for column in columns]
        print(f"| {name} | " + " | ".join(f"{median:.1f}" for median in medians) + " |")
    return 0


def _in_a_process(
    options: argparse.Namespace, mapped: bool, kernel: dict[str, str]
) -> dict[str, float]:
    command = [sys.executable, "-m", "lab.kernels", "--model", str(options.model)]
    command += ["--threads", str(options.threads), "--inside", "mapped" if mapped else "repacked"]
    result = subprocess.run(command, env=os.environ | kernel, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(result.stdout)
    return found


def _measure(path: Path, threads: int, mapped: bool) -> dict[str, float]:
    """Tokens/s of each kind of call: the fastest of some after a first one."""
    import numpy as np

    from runtime.engine.batch import Batch
    from runtime.engine.context import Context
    from runtime.engine.model import Model

    model = Model(path, mapped=mapped)
    context = Context(model, max(DECODE), 0, 256, threads, max_tokens=max(PREFILL))
    batch, random = Batch(max(PREFILL)), np.random.default_rng(0)

    def seconds(slots: np.ndarray, positions: np.ndarray, wanted: np.ndarray) -> float:
        batch.fill(random.integers(0, model.n_vocab, len(slots)), positions, slots, wanted)
        started = time.perf_counter()
        context.run(batch)
        return time.perf_counter() - started

    found = {}
    for n in PREFILL:
        each = min(n, PROMPT)
        slots, positions = np.divmod(np.arange(n), each)
        taken = []
        for _ in range(3):
            context.clear_all()
            taken.append(seconds(slots, positions, positions == each - 1))
        found[f"prefill {n}"] = n / min(taken[1:])
    for n in DECODE:
        context.clear_all()
        slots = np.arange(n)
        taken = [seconds(slots, np.full(n, at), np.ones(n)) for at in range(8)]
        found[f"decode {n}"] = n / min(taken[1:])
    context.close()
    context = Context(model, 16, 0, 1600, threads, max_tokens=max(PREFILL))
    for n, each, before in LONG:
        context.clear_all()
        for slot in range(n):
            for first in range(0, before, max(PREFILL)):
                positions = np.arange(first, min(before, first + max(PREFILL)))
                seconds(np.full(len(positions), slot), positions, positions == before - 1)
        slots, positions = np.divmod(np.arange(n * each), each)
        taken = []
        for _ in range(4):
            taken.append(seconds(slots, before + positions, positions == each - 1))
            for slot in range(n):
                context.clear(slot, before)
        found[f"{n} x {each} after {before}"] = n * each / min(taken[1:])
    model.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
