"""Questions per second: one by one, this pipeline, and llama.cpp's ceiling.

All three run in turn in each round, on the same GGUF file, questions, prompts, threads and greedy
settings. Only ratios within a round are compared.

The ceiling is the time that llama.cpp needs for the tokens that the pipeline computed: prompts
without their shared prefixes at the speed of the best prefill call, answers at the speed of decode
steps with all slots in use, both at the mean depth in the context.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before llama_cpp: sets what its libraries read when they are loaded.
import runtime.engine.library  # noqa: F401  # isort: skip

import llama_cpp
from tqdm import tqdm

from benchmarks.common import of_one_length, read_questions, table
from runtime import Pipeline, Settings, loadPipeline
from runtime.common import figures
from runtime.engine import Model
from runtime.engine.llama import physical_cores
from runtime.engine.speeds import SingleCalls
from runtime.settings import declared_subjects

# Prefill calls tried for the ceiling: (sequences, tokens each).
PREFILL_SHAPES = [(1, 128), (1, 256), (1, 512), (8, 32), (8, 64)]
MAX_INPUT_TOKENS = 512
# Decode steps timed for the ceiling.
_STEPS = 14


@dataclass(frozen=True)
class Round:
    """Seconds for all questions, and new tokens made."""

    questions: int
    one_by_one: float
    pipeline: float
    ceiling: float
    one_by_one_tokens: int
    pipeline_tokens: int

    @property
    def speedup(self) -> float:
        return self.one_by_one / self.pipeline

    @property
    def share_of_ceiling(self) -> float:
        return self.ceiling / self.pipeline


def measure(options: argparse.Namespace) -> list[Round]:
    """Run the rounds of a command line."""
    questions = read_questions(options.questions, None, options.count)
    settings = Settings.load(
        model_name=options.model,
        batch_size=options.slots,
        max_new_tokens=options.new_tokens,
        min_new_tokens=0,
        temperature=0,
        max_input_tokens=MAX_INPUT_TOKENS,
        device_map="cpu",
        algebra_tool="off",  # the model answers every question
    )
    with loadPipeline(of_one_length(settings)) as pipeline:
        path, engine = next(iter(pipeline.engines.items()))
        one_by_one = OneByOne(path, options.new_tokens)
        rounds = []
        stats = _answer(pipeline, questions)
        prefix = round(stats["shared_tokens"] / len(questions))
        prompt = (stats["shared_tokens"] + stats["prefill_tokens"]) / len(questions)
        depth = round(prompt + stats["decode_tokens"] / len(questions) / 2)
        ceiling = Ceiling(engine.model, options.slots, prefix, depth)
        for _ in tqdm(range(options.rounds), unit="round", disable=None):
            single, single_tokens = _timed(lambda: one_by_one.answer(questions))
            before = ceiling.speeds()
            pipeline_seconds, stats = _timed(lambda: _answer(pipeline, questions))
            after = ceiling.speeds()
            prefill, decode = (statistics.mean(pair) for pair in zip(before, after, strict=True))
            rounds.append(
                Round(
                    questions=len(questions),
                    one_by_one=single,
                    pipeline=pipeline_seconds,
                    ceiling=stats["prefill_tokens"] / prefill + stats["decode_tokens"] / decode,
                    one_by_one_tokens=single_tokens,
                    pipeline_tokens=int(stats["new_tokens"]),
                )
            )
        ceiling.close()
        one_by_one.close()
    return rounds


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def _answer(pipeline: Pipeline, questions: list[dict[str, Any]]) -> dict[str, float]:
    before = pipeline.stats.as_dict()
    pipeline(questions)
    return {name: value - before[name] for name, value in pipeline.stats.as_dict().items()}


class OneByOne:
    """`Llama.create_chat_completion`, one question after another."""

    def __init__(self, path: Path, new_tokens: int) -> None:
        threads = physical_cores()
        self._new_tokens = new_tokens
        self._llama = llama_cpp.Llama(
            str(path),
            n_ctx=MAX_INPUT_TOKENS + new_tokens,
            n_threads=threads,
            n_threads_batch=threads,
            flash_attn=True,  # as in the pipeline, and faster than without
            verbose=False,
        )

    def answer(self, questions: list[dict[str, Any]]) -> int:
        """Answer all; returns the number of new tokens."""
        tokens = 0
        subjects = declared_subjects()
        for question in questions:
            system = subjects.of(question["subject"]).instruction
            completion = self._llama.create_chat_completion(
                [
                    {"role": "system", "content": system},
                    {"role": "user", "content": question["question"].strip()},
                ],
                max_tokens=self._new_tokens,
                temperature=0.0,
                repeat_penalty=1.0,
            )
            tokens += completion["usage"]["completion_tokens"]
        return tokens

    def close(self) -> None:
        self._llama.close()


class Ceiling:
    """llama.cpp's own speed, in tokens per second; prefill in calls of the best shape.

    Args:
        prefix, depth: tokens in the cache before a prefill call, and at a decode step.
    """

    def __init__(self, model: Model, slots: int, prefix: int, depth: int) -> None:
        self._slots, self._prefix, self._depth = slots, prefix, depth
        streams = max(slots, *(n for n, _ in PREFILL_SHAPES))
        cells = max(prefix + max(length for _, length in PREFILL_SHAPES), depth + _STEPS)
        self._calls = SingleCalls(model, streams, cells, physical_cores())
        # Chosen once: choosing the best of several noisy figures each time would add a bias.
        self._shape = max(PREFILL_SHAPES, key=lambda shape: self._prefill(*shape))

    def speeds(self) -> tuple[float, float]:
        """(prefill, decode): medians."""
        return self._prefill(*self._shape), self._calls.decode(self._slots, self._depth, _STEPS)

    def _prefill(self, sequences: int, length: int) -> float:
        return self._calls.prefill(sequences, length, self._prefix, 7)

    def close(self) -> None:
        self._calls.close()


def report(rounds: list[Round]) -> str:
    """The figures of all rounds as a Markdown table, and the medians."""
    rows = [
        [
            *(number, f"{r.questions / r.one_by_one:.2f}", f"{r.questions / r.pipeline:.2f}"),
            *(f"{r.questions / r.ceiling:.2f}", f"{r.speedup:.2f}", f"{r.share_of_ceiling:.0%}"),
        ]
        for number, r in enumerate(rounds, 1)
    ]
    speedup = statistics.median(r.speedup for r in rounds)
    share = statistics.median(r.share_of_ceiling for r in rounds)
    last = ["median", "", "", "", f"**{speedup:.2f}**", f"**{share:.0%}**"]
    head = "round | one by one | this pipeline | ceiling | speed-up | share of ceiling"
    tokens = rounds[-1]
    return (
        f"{rounds[0].questions} questions, questions per second:\n\n"
        f"{table(head, [*rows, last])}\n\n"
        f"New tokens: {tokens.one_by_one_tokens} one by one, {tokens.pipeline_tokens} here."
    )


def picture(rounds: list[Round], path: Path) -> None:
    """The same as a bar chart."""
    names = ["one by one", "this pipeline", "llama.cpp's ceiling"]
    seconds = zip(*((r.one_by_one, r.pipeline, r.ceiling) for r in rounds), strict=True)
    speeds = [rounds[0].questions / statistics.median(each) for each in seconds]
    with figures.axes(path, 6, 2.4) as axes:
        bars = axes.barh(names, speeds, color=[figures.OTHER, figures.MAIN, figures.PALE])
        axes.bar_label(bars, fmt="%.1f", padding=3)
        axes.set_xlim(right=1.12 * max(speeds))
        axes.invert_yaxis()
        axes.set_xlabel("questions per second")
