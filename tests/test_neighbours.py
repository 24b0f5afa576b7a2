"""An answer does not depend on what else is asked: on subjects, order or batch size."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runtime.engine import Choice, Engine, EngineOptions, Request, SamplingParams

QUESTIONS = (
    "What is the capital of Australia?",
    "Who painted the Mona Lisa?",
    "Why is the sky blue?",
    "Count from one to ten, please.",
)


@pytest.fixture(scope="module")
def files(shallow_loras: Path) -> dict[str, Path]:
    """The demo's adapters by name."""
    found = {path.stem: path for path in sorted(shallow_loras.iterdir())}
    assert len(found) == 5
    return found


def requests(engine: Engine, adapters: Sequence[str | None]) -> list[Request]:
    """Each question with each adapter and with none."""
    chat = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    params = SamplingParams(max_new_tokens=8)
    return [
        Request(engine.model.tokenize(chat.format(question), special=True), params, 0, adapter)
        for question in QUESTIONS
        for adapter in adapters
    ]


def answers(engine: Engine, asked: Sequence[Request]) -> list[list[int]]:
    completions = sorted(engine.generate(asked), key=lambda completion: completion.index)
    return [completion.tokens for completion in completions]


@pytest.mark.slow
def test_answers_are_the_same_alone_and_in_any_company(
    shallow_model: Path, files: dict[str, Path]
) -> None:
    """Token by token, where adapters are mixed and at least two rows fit a call."""
    adapters = (*files, None)

    def load(slots: int) -> Engine:
        return Engine.load(shallow_model, EngineOptions(slots, cells_per_slot=256), files)

    with load(8) as engine:
        assert engine.model.stack is not None
        asked = requests(engine, adapters)
        alone = [answers(engine, [request])[0] for request in asked]
        assert answers(engine, asked) == alone
        for adapter in adapters:
            places = [n for n, request in enumerate(asked) if request.adapter == adapter]
            found = answers(engine, [asked[n] for n in places])
            assert found == [alone[n] for n in places]
        order = list(range(len(asked)))
        random.Random(1).shuffle(order)
        assert answers(engine, [asked[n] for n in order]) == [alone[n] for n in order]
    for slots in (2, 16):
        with load(slots) as engine:
            assert answers(engine, asked) == alone


# Answers that are equal to the bit

Exact = tuple[list[int], list[Choice]]
TALE = "There was a king who had three daughters, and the youngest was the fairest of them all. "


def invariant(path: Path, slots: int, files: dict[str, Path], **options: Any) -> Engine:
    return Engine.load(
        path,
        EngineOptions(slots, cells_per_slot=512, batch_invariant=True, **options),
        files,
    )


def all_kinds(engine: Engine, adapters: Sequence[str | None], keep: bool = False) -> list[Request]:
    """Short and long, greedy and sampled, with beginnings in common and without."""
    texts = ["Hi", *(f"{TALE * n}Chapter {n}:" for n in (1, 4)), f"{TALE * 4}Chapter two:"]
    return [
        Request(
            engine.model.tokenize(text),
            SamplingParams(temperature=0.7 * (n % 2), top_k=20, max_new_tokens=5, logprobs=2),
            seed=n,
            adapter=adapter,
            keep=keep,
            streamed=n % 3 == 0,
        )
        for n, text in enumerate(texts)
        for adapter in adapters
    ]


def exactly(engine: Engine, asked: Sequence[Request]) -> list[Exact]:
    """Tokens and log-probabilities, as they are in memory."""
    completions = sorted(engine.generate(asked), key=lambda completion: completion.index)
    assert all(completion.finish_reason != "error" for completion in completions)
    return [(completion.tokens, completion.scores) for completion in completions]


def assert_invariant(path: Path, files: dict[str, Path]) -> None:
    adapters = (*files, None)
    with invariant(path, 8, files) as engine:
        asked = all_kinds(engine, adapters)
        alone = []
        for request in asked:
            engine._slots.sharing.saved.clear()
            alone += exactly(engine, [request])
        assert exactly(engine, asked) == alone
        for adapter in adapters:
            places = [n for n, request in enumerate(asked) if request.adapter == adapter]
            assert exactly(engine, [asked[n] for n in places]) == [alone[n] for n in places]
        order = list(range(len(asked)))
        random.Random(1).shuffle(order)
        assert exactly(engine, [asked[n] for n in order]) == [alone[n] for n in order]
    for slots in (1, 3, 16):
        # In pieces of any length, and a second time from what was kept of the first.
        with invariant(path, slots, files, stream_gap=1e-6, call_tokens=100) as engine:
            kept = all_kinds(engine, adapters, keep=True)
            assert exactly(engine, kept) == alone
            assert exactly(engine, kept) == alone
            assert engine.stats.shared_tokens


@pytest.mark.slow
def test_batch_invariant_answers_are_equal_to_the_bit(
    shallow_model: Path, files: dict[str, Path]
) -> None:
    """Alone and in any company, order and batch size, computed anew or restored."""
    assert_invariant(shallow_model, dict(list(files.items())[:2]))
