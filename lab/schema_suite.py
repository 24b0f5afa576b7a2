"""`python -m lab.schema_suite SUITE`: JSON Schema's own test suite, through `response_format`.

    git clone https://github.com/json-schema-org/JSON-Schema-Test-Suite
    python -m lab.schema_suite JSON-Schema-Test-Suite/tests/draft2020-12

Each schema of the suite is compiled as a request's would be; one that is refused is counted and
left out. Of the others no instance that the suite calls invalid may be an answer, and what the
demo writes at a high temperature must be valid. Valid instances may be refused: objects are closed
unless their schema says otherwise, and properties come in the schema's order. The exit status is 1
if anything invalid was accepted or written.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.common.command import parser_for, run

if TYPE_CHECKING:
    from runtime.engine import Engine
    from runtime.engine.grammars import Grammar

Json = dict[str, Any]


@dataclass
class Outcome:
    """What came of the suite.

    Attributes:
        schemas: how many there are.
        refused: of them, by the reason.
        instances: that the suite calls valid, that it calls invalid.
        kept_out: valid instances that no answer can be.
        complete, cut: answers that ended, and that reached their limit.
        unchecked: complete answers to schemas whose pattern Python's `re` cannot read.
        wrong: a line for each invalid instance that an answer could be, and each invalid answer.
    """

    schemas: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    instances: Counter[bool] = field(default_factory=Counter)
    kept_out: int = 0
    complete: int = 0
    cut: int = 0
    unchecked: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of it, for people."""
        n_refused = self.refused.total()
        lines = [
            f"{self.schemas} schemas: {self.schemas - n_refused} are kept to, {n_refused} refused",
            f"invalid instances: {self.instances[False]}; valid ones: {self.instances[True]},"
            f" of which {self.kept_out} can be no answer",
            f"answers: {self.complete} complete ({self.unchecked} not checked), {self.cut} cut",
            f"wrong in all: {len(self.wrong)}",
            *(f"  {line}" for line in self.wrong),
            *(f"refused {n}: {why}" for why, n in self.refused.most_common(20)),
        ]
        return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("suite", type=Path, help="a folder of the suite, as tests/draft2020-12")
    parser.add_argument("--answers", type=int, default=3, help="to each schema (default: 3)")
    parser.add_argument("--new-tokens", type=int, default=200, help="of each (default: 200)")
    parser.add_argument("--temperature", type=float, default=1.5, help="(default: 1.5)")
    return run(_measure, parser.parse_args(argv), "stopped")


def _measure(options: argparse.Namespace) -> int:
    from runtime.engine import Engine, EngineOptions, SamplingParams
    from runtime.files import demo
    from runtime.settings import Settings

    groups = [
        {**group, "description": f"{file.stem}: {group['description']}"}
        for file in sorted(options.suite.glob("*.json"))
        for group in json.loads(file.read_text("utf-8"))
    ]
    params = SamplingParams(temperature=options.temperature, max_new_tokens=options.new_tokens)
    cells = options.new_tokens + 64
    model = demo.ensure(Settings.load().models_dir)
    with Engine.load(model, EngineOptions(slots=16, cells_per_slot=cells)) as engine:
        outcome = check(engine, groups, options.answers, params)
    print(outcome.text)
    return 1 if outcome.wrong else 0


def check(engine: Engine, groups: Sequence[Json], n_answers: int, params: Any) -> Outcome:
    """Check groups of the suite.

    Args:
        engine: writes the answers.
        groups: each with a description, a schema, and tests of it.
        n_answers: that are written to each schema.
        params: how they are sampled.
    """
    from jsonschema import Draft202012Validator

    from runtime.engine import Request

    outcome = Outcome(len(groups))
    requests = []
    prompt = engine.model.tokenize("As JSON:")
    for number, group in enumerate(groups):
        grammar = _compiled(engine, group["schema"], outcome)
        if grammar is None:
            continue
        for test in group["tests"]:
            taken = takes(engine, grammar, json.dumps(test["data"]))
            outcome.instances[test["valid"]] += 1
            outcome.kept_out += test["valid"] and not taken
            if taken and not test["valid"]:
                outcome.wrong.append(f"{group['description']}: {test['description']} is taken")
        requests += [
            Request(prompt, params, seed=seed, grammar=grammar, tag=number)
            for seed in range(n_answers)
        ]
    for completion in engine.generate(requests):
        if completion.finish_reason != "stop":
            outcome.cut += 1
            continue
        outcome.complete += 1
        group = groups[completion.tag]
        try:
            valid = Draft202012Validator(group["schema"]).is_valid(json.loads(completion.text))
        except re.error:
            outcome.unchecked += 1
        else:
            if not valid:
                outcome.wrong.append(f"{group['description']}: {completion.text!r} was written")
    return outcome


def takes(engine: Engine, grammar: Grammar, text: str) -> bool:
    """Whether an answer may be this text, in whatever tokens."""
    matcher: Any = grammar.matcher()._matcher
    tokens = engine.model.tokenize(text)
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


def _compiled(engine: Engine, schema: Any, outcome: Outcome) -> Grammar | None:
    """A schema as it is compiled for a request; None where it is refused, which is noted."""
    from runtime.engine import ConstraintError
    from runtime.serve.body.forms import Forms
    from runtime.serve.errors import ApiError

    wanted = {"type": "json_schema", "json_schema": {"name": "suite", "schema": schema}}
    try:
        constraint = Forms.model_validate({"response_format": wanted}).constraint()
        assert constraint is not None
        return engine.model.grammars.compile(constraint)
    except ApiError as error:
        outcome.refused[str(error.detail)[:100]] += 1
    except ConstraintError as error:
        outcome.refused[str(error)[:100]] += 1
    return None


if __name__ == "__main__":
    sys.exit(main())
