"""`python -m lab.mixing`: adapters in one batch against adapters by turns.

32 questions of 32 tokens get 32 new tokens each. By turns, each adapter's questions are a batch
of their own; mixed, all are one. Calls are timed, not whole runs: a prefill call of up to 8
questions and decode steps (near the start of the context, as its depth costs all the same),
interleaved over rounds, the least taken; seconds for all the questions follow. Adapters are
random, as the cost does not depend on the values, and adapt all seven linear layers.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from runtime.common.command import parser_for
from runtime.engine import Context, Model, ggml
from runtime.engine.batch import Batch
from runtime.engine.llama import physical_cores
from runtime.engine.profiles import padded

QUESTIONS, PROMPT, NEW_TOKENS, PREFILL = 32, 32, 32, 8
LINEAR = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
ADAPTERS = (1, 2, 4, 8, 16)
RANKS = (4, 16, 64)


def random_adapter(model: Path, out: Path, rank: int) -> Path:
    """An F16 adapter on all linear layers of a model."""
    random = np.random.default_rng(rank)
    with ggml.read_gguf(model, data=False) as file:
        architecture, shapes = file.text("general.architecture"), file.shapes()
    tensors = {}
    for name, (rows, columns) in shapes.items():
        if name.split(".")[-2] in LINEAR:
            a = random.normal(0, columns**-0.5, (rank, columns))
            b = random.normal(0, 0.02, (rows, rank))
            tensors[f"{name}.lora_a"] = a.astype(np.float16)
            tensors[f"{name}.lora_b"] = b.astype(np.float16)
    metadata: dict[str, str | float] = {
        "general.type": "adapter",
        "general.architecture": architecture,
        "adapter.type": "lora",
        "adapter.lora.alpha": float(rank),
    }
    ggml.write_gguf(out, metadata, tensors)
    return out


@dataclass(frozen=True)
class Times:
    """Seconds of a prefill call and of a decode step."""

    prefill: float
    step: float

    def least(self, other: Times) -> Times:
        return Times(min(self.prefill, other.prefill), min(self.step, other.step))

    def questions(self, n: int) -> float:
        """Seconds for n questions, if they are a batch of their own."""
        return -(-n // PREFILL) * self.prefill + NEW_TOKENS * self.step


def measure(
    context: Context, rows: int, adapters: ArrayLike | None = None, adapter: str | None = None
) -> Times:
    """One prefill call of up to 8 questions and the best of four steps of `rows` rows."""
    batch = Batch(context.max_tokens)
    used = None if adapters is None else np.asarray(adapters)

    def call(n: int, length: int, start: int) -> float:
        position = np.tile(np.arange(start, start + length), n)
        output = np.tile(np.arange(length) == length - 1, n)
        batch.fill(5 + position, position, np.repeat(np.arange(n), length), output)
        each = None if used is None else np.repeat(used[:n], length)
        started = time.perf_counter()
        context.run(batch, adapter=adapter, mixed=each)
        return time.perf_counter() - started

    context.clear_all()
    prefill = call(min(rows, PREFILL), PROMPT, 0)
    context.clear_all()
    # The first step makes a graph, which those after it reuse.
    return Times(prefill, min(call(rows, 1, n) for n in range(4)))


def best(rounds: int, contenders: dict[str, Callable[[], Times]]) -> dict[str, Times]:
    """The least of each over rounds in which all take their turn."""
    found: dict[str, Times] = {}
    for _ in range(rounds):
        for name, contender in contenders.items():
            times = contender()
            found[name] = times.least(found.get(name, times))
    return found


@contextmanager
def loaded(path: Path, threads: int) -> Iterator[tuple[Model, Callable[[bool], Context]]]:
    """A model, and what makes a context of 32 slots for it, mixing or not."""
    model = Model(path)
    try:
        yield (
            model,
            lambda mix: Context(model, QUESTIONS, 1, 256, threads, flash_attention="on", mix=mix),
        )
    finally:
        model.close()


def rows_for(adapters: int) -> int:
    """Rows of a decode step of one adapter's questions."""
    return padded(QUESTIONS // adapters)


def compare(
    path: Path, adapter: Path, n: int, dtype: Literal["F32", "F16"], rounds: int, threads: int
) -> dict[str, float]:
    """Seconds for all questions: no adapter, one for all, n by turns, n mixed."""
    with loaded(path, threads) as (model, context):
        model.load_adapter("one", adapter)
        stack = model.load_stack({str(index): adapter for index in range(n)}, dtype)
        plain, mixing = context(False), context(True)

        def turn(rows: int, name: str | None) -> Times:
            return measure(plain, rows, adapter=name)

        rows = rows_for(n)
        times = best(
            rounds,
            {
                "none": lambda: turn(QUESTIONS, None),
                "one": lambda: turn(QUESTIONS, "one"),
                "turns": lambda: turn(rows, "one"),
                "mixed": lambda: measure(mixing, QUESTIONS, np.arange(QUESTIONS) % n),
            },
        )
        return {
            "none": times["none"].questions(QUESTIONS),
            "one": times["one"].questions(QUESTIONS),
            "turns": n * times["turns"].questions(QUESTIONS // n),
            "mixed": times["mixed"].questions(QUESTIONS),
            "stack": stack.nbytes / 2**20,
        }


def report(path: Path, results: Iterable[tuple[int, int, str, dict[str, float]]]) -> Iterator[str]:
    yield f"{path.name}: seconds for {QUESTIONS} questions of {NEW_TOKENS} new tokens"
    yield ""
    yield (
        "| adapters | rank | type | none | one for all | by turns | mixed | turns / mixed"
        " | one / mixed | stack, MiB |"
    )
    yield "| --- " * 10 + "|"
    for n, rank, dtype, s in results:
        yield (
            f"| {n} | {rank} | {dtype} | {s['none']:.2f} | {s['one']:.2f} | {s['turns']:.2f} |"
            f" {s['mixed']:.2f} | {s['turns'] / s['mixed']:.2f} | {s['one'] / s['mixed']:.2f} |"
            f" {s['stack']:.0f} |"
        )


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--adapters", type=int, nargs="+", default=ADAPTERS)
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    parser.add_argument("--types", nargs="+", choices=("F32", "F16"), default=["F32"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=physical_cores())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:

        def results() -> Iterator[tuple[int, int, str, dict[str, float]]]:
            for rank in arguments.ranks:
                out = Path(folder) / f"{rank}.gguf"
                adapter = random_adapter(arguments.model, out, rank)
                for n in arguments.adapters:
                    for dtype in arguments.types:
                        seconds = compare(
                            *(arguments.model, adapter, n, dtype),
                            *(arguments.rounds, arguments.threads),
                        )
                        yield n, rank, dtype, seconds

        for line in report(arguments.model, results()):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
