"""`python -m lab.forms`: the cost of constrained answers.

    python -m lab.forms --model models/qwen3-1.7b-shape-Q4_K_M.gguf

As many requests as slots run at once and write the same number of tokens: without a constraint,
each with its own JSON schema, half of each, and with tools that the model may call. Rounds
alternate; a speed is that of the fastest round, since other programs can only slow one down. Also
measured: the time to compile a schema, and to find the allowed tokens of one row; and what it gains
that forced tokens are computed together, on objects with long keys, alone and in a full batch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.common.command import parser_for, run
from runtime.common.machine import cpu_name, cpus

if TYPE_CHECKING:
    from runtime.engine import Constraint, Engine

FIELDS: dict[str, Any] = {
    "name": {"type": "string", "maxLength": 40},
    "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "email": {"type": "string", "format": "email"},
    "born": {"type": "string", "format": "date"},
    "score": {"type": "number", "minimum": 0, "maximum": 1},
    "kind": {"enum": ["person", "place", "event", "other"]},
    "notes": {"type": ["string", "null"]},
    "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z-]{2,12}$"}},
    "active": {"type": "boolean"},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--slots", type=int, default=16, help="default: 16")
    parser.add_argument("--tokens", type=int, default=48, help="of each answer (default: 48)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--threads", type=int, default=cpus().cores, help="default: all cores")
    return run(_measure, parser.parse_args(argv), "stopped")


def schemas(count: int) -> list[Constraint]:
    """Different schemas of lists that do not end before an answer does."""
    from runtime.engine import Constraint

    names = list(FIELDS)
    made = []
    for number in range(count):
        chosen = [names[(number + 2 * place) % len(names)] for place in range(2 + number % 4)]
        item = {
            "type": "object",
            "properties": {f"{name}_{number}": FIELDS[name] for name in chosen},
            "required": [f"{name}_{number}" for name in chosen],
            "additionalProperties": False,
        }
        made.append(Constraint.schema({"type": "array", "items": item, "minItems": 500}))
    return made


def with_tools() -> Constraint:
    """Any text, with calls of tools in it or without, as `tool_choice: "auto"` has it."""
    from runtime.engine import Constraint
    from runtime.serve.tools.formats import FORMS
    from runtime.serve.tools.grammar import tool_grammar

    tools = {f"tool_{name}": {"properties": {name: form}} for name, form in FIELDS.items()}
    return Constraint.grammar(tool_grammar(FORMS[0], tools, False, True, {}))


def long_keys(count: int) -> list[Constraint]:
    """Schemas of small objects with long keys, all of them required."""
    from runtime.engine import Constraint

    made = []
    for number in range(count):
        keys = {f"the_{name}_of_person_number_{number}_in_the_list": name for name in FIELDS}
        short = {key: FIELDS[name] for key, name in keys.items() if name not in ("tags", "notes")}
        schema = {"type": "object", "properties": short, "required": list(short)}
        made.append(Constraint.schema({**schema, "additionalProperties": False}))
    return made


def _measure(options: argparse.Namespace) -> int:
    from benchmarks.common import table
    from runtime.engine import Engine, EngineOptions

    room = options.tokens + 64
    runs = EngineOptions(slots=options.slots, cells_per_slot=room, threads=options.threads)
    with Engine.load(options.model, runs) as engine:
        forms = schemas(options.slots)
        began = time.perf_counter()
        engine.model.grammars.compile(forms[0])
        first = time.perf_counter() - began
        began = time.perf_counter()
        for form in forms[1:]:
            engine.model.grammars.compile(form)
        each = (time.perf_counter() - began) / max(1, len(forms) - 1)
        half = [form if number % 2 else None for number, form in enumerate(forms)]
        ways: dict[str, Sequence[Constraint | None]] = {
            "free": [None] * len(forms),
            "half of them to schemas": half,
            "to schemas": forms,
            "with tools that may be called": [with_tools()] * len(forms),
        }
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        shares: dict[str, list[float]] = {name: [] for name in ways}
        _round(engine, ways["free"], 8)
        for number in range(options.rounds):
            for name in list(ways)[:: -1 if number % 2 else 1]:
                speed, share = _round(engine, ways[name], options.tokens)
                speeds[name].append(speed)
                shares[name].append(share)
        print(f"{options.model.name}, {options.slots} slots, {cpu_name()}")
        print(
            f"vocabulary read and first schema compiled in {first:.2f} s, another in {each:.4f} s\n"
        )
        free = max(speeds["free"])
        rows = []
        for name in ways:
            speed, share = max(speeds[name]), statistics.median(shares[name])
            rows.append([name, f"{speed:.1f}", f"{speed / free:.3f}", f"{share:.3f}"])
        print(table("answers | tokens/s | of free ones | share of sampling", rows))
        steps = _steps(engine, forms, options.tokens)
        mean, longest = (seconds * 1e3 for seconds in steps)
        print(f"\na row's allowed tokens: {mean:.2f} ms, the slowest {longest:.1f} ms\n")
    with Engine.load(options.model, replace(runs, cells_per_slot=512)) as engine:
        rows = [
            [str(n), name, *_whole(engine, long_keys(n), together)]
            for n in (1, options.slots)
            for name, together in (("together", True), ("one by one", False))
        ]
        print(table("answers at once | forced tokens | tokens | calls | seconds", rows))
    return 0


def _round(
    engine: Engine, forms: Sequence[Constraint | None], n_tokens: int
) -> tuple[float, float]:
    """Tokens/s without the prompts' time, and the share of it that went into drawing tokens."""
    from runtime.engine import Request, SamplingParams

    params = SamplingParams(
        temperature=0.7, top_k=20, top_p=0.8, min_new_tokens=n_tokens, max_new_tokens=n_tokens
    )
    requests = [
        Request(
            engine.model.tokenize("A list of people as JSON:"),
            params,
            seed,
            grammar=engine.model.grammars.compile(form) if form else None,
        )
        for seed, form in enumerate(forms)
    ]
    engine.stats.reset()
    began = time.perf_counter()
    completions = list(engine.generate(requests))
    seconds = time.perf_counter() - began - engine.stats.prefill_seconds
    assert all(len(completion.tokens) == n_tokens for completion in completions)
    return engine.stats.new_tokens / seconds, engine.stats.sampling_seconds / seconds


def _whole(engine: Engine, forms: Sequence[Constraint], together: bool) -> tuple[str, ...]:
    """Tokens, calls after the prompts, and seconds of whole answers to schemas."""
    from runtime.engine import Request, SamplingParams

    # Where a request says something of single tokens, nothing is forced: they are drawn.
    biases = () if together else ((0, 0.0),)
    params = SamplingParams(max_new_tokens=400, logit_bias=biases)
    prompt = engine.model.tokenize("A person as JSON:")
    requests = [
        Request(prompt, params, seed, grammar=engine.model.grammars.compile(form))
        for seed, form in enumerate(forms)
    ]
    best = ("", "", "inf")
    for _ in range(2):
        engine.stats.reset()
        began = time.perf_counter()
        completions = list(engine.generate(requests))
        seconds = time.perf_counter() - began
        n_tokens = sum(len(completion.tokens) for completion in completions)
        found = (str(n_tokens), str(engine.stats.decode_calls), f"{seconds:.2f}")
        best = min(best, found, key=lambda each: float(each[2]))
    return best


def _steps(engine: Engine, forms: Sequence[Constraint], n_tokens: int) -> tuple[float, float]:
    """Mean and longest seconds to find the allowed tokens, along random answers."""
    import numpy as np

    random, taken = np.random.default_rng(0), []
    for form in forms:
        matcher = engine.model.grammars.compile(form).matcher()
        for _ in range(n_tokens):
            began = time.perf_counter()
            allowed = matcher.allowed()
            taken.append(time.perf_counter() - began)
            matcher.accept(int(random.choice(np.flatnonzero(allowed))))
    return statistics.mean(taken), max(taken)


if __name__ == "__main__":
    sys.exit(main())
