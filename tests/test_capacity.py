"""No combination of settings ends the process in one of llama.cpp's assertions."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from runtime import SetupError, loadPipeline
from runtime.engine import Context, Engine, EngineError
from runtime.engine.batch import Batch
from runtime.engine.sizing import call_tokens, fit_layout
from runtime.settings import PROJECT_DIR
from tests.conftest import small_settings

Values = dict[str, Any]

# The bounds of each setting that decides about a context or a call, and what is usual.
BOUNDS: dict[str, tuple[Any, ...]] = {
    "batch_size": (1, 2, 48, 240),
    "prefill_tokens": (16, 64, 512, 8192),
    "max_input_tokens": (64, 1024, 7800),
    "max_new_tokens": (1, 24),
    "num_threads": (0, 1, 512),
    "kv_cache_type": ("f16", "q8_0"),
    "kv_cache_gb": (0.0, 0.001, 1.0),
    "batch_invariant": (False, True),
    "adapters_base_dir": (None, "ADAPTERS"),
}
# What issue reports and tuning notes had: PREFILL_TOKENS below the slots with the staging ones.
KNOWN: list[Values] = [
    {"prefill_tokens": 16},
    {"prefill_tokens": 64, "batch_size": 64},
    {"prefill_tokens": 64, "batch_size": 128},
]


def pairs(values: Values) -> set[tuple[tuple[str, Any], tuple[str, Any]]]:
    return set(combinations(values.items(), 2))


def all_pairs() -> list[Values]:
    """Combinations in which each value of each setting meets each value of each other."""
    missing = {
        ((a, x), (b, y)) for a, b in combinations(BOUNDS, 2) for x in BOUNDS[a] for y in BOUNDS[b]
    }
    found = []
    while missing:
        chosen: Values = dict(min(missing, key=repr))
        for name in BOUNDS:
            if name not in chosen:
                chosen[name] = max(
                    BOUNDS[name],
                    key=lambda value: len(
                        missing
                        & pairs({n: v for n, v in {**chosen, name: value}.items() if n in BOUNDS})
                    ),
                )
        chosen = {name: chosen[name] for name in BOUNDS}
        missing -= pairs(chosen)
        found.append(chosen)
    return found


def _child() -> None:
    """Load and answer with each combination on stdin; a line before and after each."""
    models, adapters = map(Path, sys.argv[1:])
    for line in sys.stdin:
        values = json.loads(line)
        if values.pop("adapters_base_dir", None) is not None:
            values["adapters_base_dir"] = adapters
        print(line.strip(), flush=True)
        questions = [{"questionID": s, "subject": s, "question": "Why?"} for s in ("history", "x")]
        try:
            with loadPipeline(
                small_settings(models_dir=models, **{"max_new_tokens": 4} | values)
            ) as pipeline:
                answers = pipeline(questions)
            assert [answer["questionID"] for answer in answers] == ["history", "x"]
            print("ok", flush=True)
        except (SetupError, EngineError) as error:
            print("refused:", error, flush=True)


@pytest.mark.slow
def test_no_combination_of_settings_aborts(shallow_model: Path, shallow_loras: Path) -> None:
    """An abort would kill pytest too, so the combinations are tried in another process."""
    tried = [*KNOWN, *all_pairs()]
    child = subprocess.run(
        [
            *(sys.executable, "-c", "from tests.test_capacity import _child; _child()"),
            *(shallow_model.parent, shallow_loras),
        ],
        cwd=PROJECT_DIR,
        input="\n".join(map(json.dumps, tried)),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = child.stdout.splitlines()
    assert child.returncode == 0, (lines[-1:], child.stderr[-2000:])
    outcomes = lines[1::2]
    assert len(outcomes) == len(tried)
    wrong = [(v, outcome) for v, outcome in zip(tried, outcomes, strict=True) if outcome != "ok"]
    assert wrong == []


def test_all_pairs_are_among_the_combinations() -> None:
    covered = set().union(*map(pairs, all_pairs()))
    for a, b in combinations(BOUNDS, 2):
        assert {((a, x), (b, y)) for x in BOUNDS[a] for y in BOUNDS[b]} <= covered


@pytest.mark.parametrize("slots", [1, 2, 16, 64, 240])
def test_a_call_has_a_row_for_each_slot_and_each_staging_slot(slots: int) -> None:
    layout = fit_layout(256, slots)
    assert call_tokens(1, layout.sequences) == layout.slots + layout.staging
    assert call_tokens(8192, layout.sequences) == 8192


def test_a_call_beyond_a_contexts_capacity_is_an_error_and_no_abort(engine: Engine) -> None:
    context = Context(engine.model, 1, 0, 256, 1, max_tokens=64)
    batch = Batch(128).fill([5] * 65, range(65), 0, 0)
    with pytest.raises(EngineError, match="a call of 65 tokens, and this context takes 64"):
        context.run(batch)
    assert len(context.run(batch.fill([5] * 64, range(64), 0, [0] * 63 + [1]))) == 1
    context.close()


def test_what_llama_cpp_says_of_a_call_is_in_the_error_and_not_on_the_screen(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    context = Context(engine.model, 1, 0, 256, 1, max_tokens=64)
    batch = Batch(64)
    context.run(batch.fill([5], [0], 0, [1]))
    with pytest.raises(EngineError, match=r"code -1 \(llama.cpp: .*position"):
        context.run(batch.fill([5], [9], 0, [1]))  # 1 is next
    context.close()
    assert capfd.readouterr().err == ""
