"""Cases of JSON Schema's own test suite, as far as they are held: see `lab.schema_suite`.

`schema_suite.json` has some of each kind. They are from
https://github.com/json-schema-org/JSON-Schema-Test-Suite: MIT licence, Copyright (c) 2012 Julian
Berman; the file has the licence's text.
"""

from __future__ import annotations

import json

import pytest

pytest.importorskip("llguidance")
pytest.importorskip("jsonschema")
pytest.importorskip("fastapi")

from lab.schema_suite import check
from runtime.engine import Engine, SamplingParams
from runtime.settings import PROJECT_DIR

HOT = SamplingParams(temperature=1.5, max_new_tokens=40)


def test_held_cases_of_the_suite_have_valid_answers_alone(engine: Engine) -> None:
    file = PROJECT_DIR / "tests" / "schema_suite.json"
    groups = json.loads(file.read_text("utf-8"))["groups"]
    outcome = check(engine, groups, 0, HOT)
    assert not outcome.wrong
    assert not outcome.refused
    assert outcome.schemas == len(groups)
    assert min(outcome.instances.values()) > 50
    written = check(engine, groups[::6], 1, HOT)
    assert not written.wrong
    assert written.complete > written.unchecked
