"""Which judges decide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evaluation import judging
from evaluation.__main__ import _parser
from evaluation.errors import EvaluationError
from tests.evaluating import score_of


def test_a_judge_model_is_named_and_opened_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Yes:
        """A model that finds everything right."""

        name = "yes"

        def __init__(self, path: Path, threads: int) -> None:
            opened.append(path)

        def __enter__(self) -> Yes:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def ask(self, rubric: str, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
            return ((n, "VERDICT: CORRECT") for n in range(len(prompts)))

    opened: list[Path] = []
    monkeypatch.setattr(judging, "LocalModel", Yes)
    (tmp_path / "judge.gguf").touch()
    cache = tmp_path / "replies.jsonl"
    by_model = judging.choose("model", str(tmp_path / "judge.gguf"), None, 100, cache)
    assert not opened
    call = 'return [dict(questionID=q["questionID"], answer="A fruit.") for q in questions]'
    summary = score_of(tmp_path, call, judging=by_model)
    assert len(opened) == 1
    assert summary.judge == "model judge.gguf, asked at most 100 times"
    assert (summary.accuracy.mean, summary.by_judge) == (1, {"model": 10})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "http://127.0.0.1:9/v1", None, None), "gave no reply"),
        (("rules", "model.gguf", None, None), "--judge rules asks no model"),
        (("model", "none.gguf", None, None), "neither a URL nor a file that is there"),
        ((None, None, None, 5), "a judge model needs --judge-model"),
    ],
)
def test_a_judge_model_that_cannot_be_is_refused(
    tmp_path: Path, arguments: tuple[Any, Any, Any, Any], message: str
) -> None:
    with pytest.raises(EvaluationError, match=re.escape(message)):
        judging.choose(*arguments, tmp_path / "replies.jsonl")


def test_the_judges_by_rules_may_be_called_by_their_old_name() -> None:
    parsed = _parser().parse_args(["--questions", "q.jsonl", "--judge", "cheap"])
    assert parsed.judge == "rules"
