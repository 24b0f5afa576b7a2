"""Greedy answers are those of `llama_cpp.Llama`, one by one, on the same file and prompts.

Flash attention rounds differently from attention without it, so both sides use it.

Batches of another size may add the same numbers in another order, so two tokens whose
logits lie within floating-point noise of each other may swap; from there on the two texts
differ rightly. So where ours leaves the reference, the reference's own logits at that
place must be closer together than NOISE; everything before must be equal. With the same
attention no answer of 46 left the reference when this was written, at any number of slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from runtime.engine import Engine, EngineOptions, Request, SamplingParams
from runtime.prompts import frame
from runtime.questions import read_file
from runtime.subjects import Subjects
from tests.conftest import SAMPLES

NOISE = 0.1
MOST_TIES = 2
NEW_TOKENS = 24
PROMPTS = 16


@pytest.fixture(scope="module")
def reference(demo_model: Path) -> Iterator[llama_cpp.Llama]:
    llama = llama_cpp.Llama(
        str(demo_model), n_ctx=512, flash_attn=True, verbose=False, logits_all=True
    )
    yield llama
    llama.close()


@pytest.fixture(scope="module")
def prompts(engine: Engine) -> list[list[int]]:
    model = engine.model
    rendered = frame(
        model.metadata("tokenizer.chat_template"), Subjects.load()["general"].instruction
    )
    head = model.tokenize(rendered.head, special=True)
    tail = model.tokenize(rendered.tail, special=True)
    questions = [q for q in read_file(SAMPLES) if not q.problem][::2][:PROMPTS]
    return [head + model.tokenize(q.text) + tail for q in questions]


@pytest.fixture(scope="module")
def expected(reference: llama_cpp.Llama, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy tokens of the reference, end token included if it came."""
    answers = []
    for prompt in prompts:
        tokens = []
        for token in reference.generate(prompt, top_k=1, temp=0.0, repeat_penalty=1.0):
            tokens.append(token)
            if token == reference.token_eos() or len(tokens) == NEW_TOKENS:
                break
        answers.append(tokens)
    return answers


def gap(reference: llama_cpp.Llama, tokens: list[int], a: int, b: int) -> float:
    """By how much the reference prefers one of two tokens after `tokens`."""
    reference.reset()
    reference.eval(tokens)
    last = np.array(reference.scores[len(tokens) - 1])
    return float(abs(last[a] - last[b]))


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 4, 16])
def test_greedy_answers_equal_llamas_but_for_ties(
    demo_model: Path,
    reference: llama_cpp.Llama,
    prompts: list[list[int]],
    expected: list[list[int]],
    slots: int,
) -> None:
    requests = [Request(p, SamplingParams(max_new_tokens=NEW_TOKENS)) for p in prompts]
    with Engine.load(
        demo_model, EngineOptions(slots, cells_per_slot=256, flash_attention="on")
    ) as engine:
        completions = sorted(engine.generate(requests), key=lambda c: c.index)
        end = int(reference.token_eos())
    ties = 0
    for prompt, completion, theirs in zip(prompts, completions, expected, strict=True):
        ours = completion.tokens + ([end] if completion.finish_reason == "stop" else [])
        if ours == theirs:
            continue
        at = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
        assert gap(reference, prompt + ours[:at], ours[at], theirs[at]) < NOISE
        ties += 1
    assert ties <= MOST_TIES, "so many are no ties: something else is wrong"
