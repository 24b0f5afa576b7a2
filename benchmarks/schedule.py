"""`python -m benchmarks.schedule`: what ways to arrange the work are worth, each against without.

    python -m benchmarks.schedule
    python -m benchmarks.schedule --model models/Qwen3-1.7B-Q4_K_M.gguf --count 32

Longest first against the order of arrival; drafts looked up in the prompt, for the last
sequences of a batch; prefixes decoded side by side; prefix states kept instead of decoded; the
share of the output head, which a smaller vocabulary would save. Rounds alternate, medians count.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.throughput import load_questions
from runtime.engine import Completion, Context, Engine, EngineOptions, Request, SamplingParams
from runtime.engine.batch import Batch
from runtime.engine.llama import physical_cores
from runtime.engine.sizing import cells_needed
from runtime.engine.speeds import SingleCalls
from runtime.files import demo
from runtime.prompts import prompt_tokens, tokenized_frame
from runtime.settings import PROJECT_DIR, declared_subjects

MAX_INPUT_TOKENS = 512
NGRAM = 2
DRAFT = 3


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.schedule",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, help="a GGUF file (default: the demo model)")
    parser.add_argument("--questions", type=Path, nargs="+", default=[], help="JSON Lines")
    parser.add_argument("--count", type=int, default=96, help="of questions (default: 96)")
    parser.add_argument("--slots", type=int, default=16, help="default: 16")
    parser.add_argument("--new-tokens", type=int, default=48, help="longest answer (default: 48)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    options = parser.parse_args(arguments)
    path = options.model or demo.ensure(PROJECT_DIR / "models")
    asked = load_questions(options.count, options.questions)
    layout = EngineOptions(
        slots=options.slots,
        cells_per_slot=cells_needed(MAX_INPUT_TOKENS, options.new_tokens),
        threads=physical_cores(),
    )
    with Engine.load(path, layout) as engine:
        subjects = declared_subjects()
        frames = {s: tokenized_frame(engine.model, s, subjects) for s in subjects}
        params = SamplingParams(max_new_tokens=options.new_tokens)
        requests = []
        for question in asked:
            subject = subjects.of(question["subject"]).name
            frame = frames[subject]
            tokens, _ = prompt_tokens(engine.model, frame, question["question"], MAX_INPUT_TOKENS)
            requests.append(Request(tokens, params, group=subject))
        print(f"{path.name}: {len(requests)} questions, {options.slots} slots\n")
        for line in (
            *order(engine, requests, options.rounds),
            *drafts(engine, requests),
            *prefixes(engine, [frame.head for frame in frames.values()], options.rounds),
            *head(engine, options.slots, options.rounds),
        ):
            print(f"- {line}")
    return 0


def order(engine: Engine, requests: list[Request], rounds: int) -> Iterator[str]:
    """Longest first, within what patience allows, against the order of arrival."""
    usual = engine._waiting.patience
    seconds: dict[int, list[float]] = {usual: [], 0: []}
    padding = {}
    for _ in tqdm(range(rounds), unit="round", disable=None):
        for patience, times in seconds.items():
            engine._waiting.patience = patience
            engine.stats.reset()
            times.append(_timed(lambda: list(engine.generate(requests))))
            padding[patience] = engine.stats.padding_tokens
    engine._waiting.patience = usual
    ratio = statistics.median(seconds[0]) / statistics.median(seconds[usual])
    yield (
        f"longest first: {ratio:.2f} times as fast as in the order of arrival"
        f" ({padding[usual]} padded rows instead of {padding[0]})"
    )


def drafts(engine: Engine, requests: list[Request]) -> Iterator[str]:
    """What is left to gain where few sequences run, and how often a looked-up draft is right."""
    completions: list[Completion] = []
    by_running: dict[int, float] = {}
    for request in requests:
        engine.add(request)
    while engine.has_work:
        running = engine.n_running
        started = time.perf_counter()
        updates = engine.step()
        by_running[running] = by_running.get(running, 0.0) + time.perf_counter() - started
        completions += [update.completion for update in updates if update.completion]
    total = sum(by_running.values())
    few = sum(seconds for running, seconds in by_running.items() if running <= 2)
    proposed = right = steps = 0
    for completion, request in zip(
        sorted(completions, key=lambda c: c.index), requests, strict=True
    ):
        context, answer = list(request.prompt), completion.tokens
        at = 0
        while at < len(answer):
            draft = _looked_up([*context, *answer[:at]])
            agreed = 0
            while agreed < min(len(draft), len(answer) - at - 1):
                if draft[agreed] != answer[at + agreed]:
                    break
                agreed += 1
            proposed += len(draft)
            right += agreed
            steps += 1
            at += agreed + 1
    yield f"one or two sequences left: {few / total:.1%} of the time"
    yield (
        f"drafts of {DRAFT} tokens looked up by the last {NGRAM}: {right} of {proposed} tokens"
        f" right, {right / max(1, steps):.2f} tokens saved a step"
    )


def _looked_up(tokens: list[int]) -> list[int]:
    """What followed the last time that the newest tokens stood in a row."""
    key = tokens[-NGRAM:]
    for at in range(len(tokens) - NGRAM - 1, -1, -1):
        if tokens[at : at + NGRAM] == key:
            return tokens[at + NGRAM : at + NGRAM + DRAFT]
    return []


def prefixes(engine: Engine, heads: list[list[int]], rounds: int) -> Iterator[str]:
    """Prefixes one after another against side by side in a call, and read back from a copy."""
    longest = max(map(len, heads))
    after: list[float] = []
    beside: list[float] = []
    back: list[float] = []
    with SingleCalls(engine.model, len(heads), longest, engine.options.threads) as calls:
        for _ in range(rounds):
            engine._prefixes.clear()
            after.append(_timed(lambda: engine.share_prefixes([(None, h) for h in heads])))
            beside.append(len(heads) * longest / calls.prefill(len(heads), longest))
            states = [saved.state for saved in engine._prefixes._saved.values()]
            started = time.perf_counter()
            for state in states:
                engine.context.restore(0, state)
            back.append(time.perf_counter() - started)
            engine.context.clear(0)
    seconds = statistics.median(after)
    n_tokens, size = sum(map(len, heads)), sum(state.nbytes for state in states)
    yield (
        f"{len(heads)} prefixes ({n_tokens} tokens, the longest {longest}) one after another:"
        f" {seconds:.2f} s; side by side in one call: {statistics.median(beside):.2f} s"
    )
    yield (
        f"their states ({size / 2**20:.1f} MiB) restored from memory instead:"
        f" {statistics.median(back) / seconds:.1%} of that time"
    )


def head(engine: Engine, slots: int, rounds: int) -> Iterator[str]:
    """The output head's share of a decode step: steps with logits against steps without."""
    context = Context(engine.model, slots, 0, 256, engine.options.threads)
    try:
        batch, row = Batch(slots), np.arange(slots)
        with_logits: list[float] = []
        without: list[float] = []
        position = 0
        for _ in range(10 * rounds):
            for times, output in ((with_logits, 1), (without, 0)):
                batch.fill(row + 100, np.full(slots, position), row, output)
                times.append(_timed(lambda: context.decode(batch, slots * output)))  # noqa: B023
                position += 1
        share = 1 - statistics.median(without) / statistics.median(with_logits)
        yield f"the output head ({engine.model.n_vocab} tokens): {share:.0%} of a decode step"
    finally:
        context.close()


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
