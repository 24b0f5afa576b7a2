"""A greedy answer does not depend on what else is asked: on subjects, order or batch size."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.engine import Engine, EngineOptions, Request, SamplingParams
from runtime.settings import PROJECT_DIR

FILES = {path.stem: path for path in sorted((PROJECT_DIR / "loras").glob("*.gguf"))}
QUESTIONS = (
    "What is the capital of Australia?",
    "Who painted the Mona Lisa?",
    "Why is the sky blue?",
    "Count from one to ten, please.",
)


def load(demo_model: Path, slots: int) -> Engine:
    return Engine.load(demo_model, EngineOptions(slots=slots, cells_per_slot=256), FILES)


def requests(engine: Engine) -> list[Request]:
    """Each question with each adapter and with none."""
    chat = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    params = SamplingParams(max_new_tokens=32)
    return [
        Request(engine.model.tokenize(chat.format(question), special=True), params, 0, adapter)
        for question in QUESTIONS
        for adapter in (*FILES, None)
    ]


def answers(engine: Engine, asked: Sequence[Request]) -> list[list[int]]:
    completions = sorted(engine.generate(asked), key=lambda completion: completion.index)
    return [completion.tokens for completion in completions]


@pytest.mark.slow
def test_answers_are_the_same_alone_and_in_any_company(demo_model: Path) -> None:
    """Token by token, where adapters are mixed and at least two rows fit a call."""
    assert len(FILES) == 5
    with load(demo_model, 8) as engine:
        assert engine.model.stack is not None
        asked = requests(engine)
        alone = [answers(engine, [request])[0] for request in asked]
        assert answers(engine, asked) == alone
        for adapter in (*FILES, None):
            places = [n for n, request in enumerate(asked) if request.adapter == adapter]
            found = answers(engine, [asked[n] for n in places])
            assert found == [alone[n] for n in places]
        order = list(range(len(asked)))
        random.Random(1).shuffle(order)
        assert answers(engine, [asked[n] for n in order]) == [alone[n] for n in order]
    for slots in (2, 3, 16):
        with load(demo_model, slots) as engine:
            assert answers(engine, asked) == alone
