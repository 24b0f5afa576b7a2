"""The demo's corpora: what they hold, and that they can be made again."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from lab import corpora
from tests.conftest import SAMPLES
from tests.demo_corpora import CORPORA, SUBJECTS, records
from training.corpus import read_corpus
from training.errors import TrainingError


def same(question: str) -> str:
    """What two ways of writing one question have in common: its letters, digits and signs."""
    return "".join(question.split()).casefold().rstrip(".?？。")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_record_is_a_question_and_an_answer_and_nothing_else(subject: str) -> None:
    pairs = read_corpus(CORPORA / f"{subject}.jsonl", skip_bad=False)
    assert len(pairs) == len(records(subject)) > 300
    for record in records(subject):
        assert list(record) == ["question", "answer"]
        assert all(text and text == " ".join(text.split()) for text in record.values()), record


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_question_is_asked_twice(subject: str) -> None:
    questions = [same(record["question"]) for record in records(subject)]
    assert sorted(set(questions)) == sorted(questions)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_sample_questions_are_not_among_them(subject: str) -> None:
    lines = SAMPLES.read_text(encoding="utf-8").splitlines()
    asked = {same(json.loads(line)["question"]) for line in lines} - {""}
    assert len(asked) > 40
    assert not asked & {same(record["question"]) for record in records(subject)}


@pytest.mark.parametrize("subject", ["geography", "history", "general"])
def test_answers_are_bare_and_short(subject: str) -> None:
    for record in records(subject):
        answer = record["answer"]
        assert len(answer.split()) <= 10, record
        assert not answer.endswith(".") or answer == "Washington, D.C.", record
        assert answer[0] == answer[0].upper(), record


def test_chinese_is_chinese_and_short() -> None:
    for record in records("chinese"):
        for text in record.values():
            han = re.findall(r"[\u4e00-\u9fff]", text)
            assert han, record
            assert not re.search(r"[a-zA-PR-Z]", text), record  # Q: there is an 阿Q
        assert len(record["answer"]) <= 25, record
        assert not record["answer"].endswith("。"), record


def test_algebra_is_a_line_of_working_that_ends_with_the_result() -> None:
    for record in records("algebra"):
        assert len(record["answer"]) <= 90, record
        assert record["answer"].endswith("."), record
        assert re.search(r"(, so | = ).+\.$", record["answer"]), record


@pytest.mark.slow
def test_made_again_they_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    assert len(list(corpora.make(tmp_path))) == len(SUBJECTS)
    for subject in SUBJECTS:
        made = (tmp_path / f"{subject}.jsonl").read_bytes()
        assert made == (CORPORA / f"{subject}.jsonl").read_bytes(), subject


def test_the_readme_counts_them_right() -> None:
    readme = (CORPORA / "README.md").read_text(encoding="utf-8")
    for subject in SUBJECTS:
        row = re.search(rf"\| `{subject}\.jsonl` \| ([\d,]+) \|", readme)
        assert row is not None
        assert int(row[1].replace(",", "")) == len(records(subject)), subject


def test_a_library_that_is_missing_is_named_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sympy", None)
    with pytest.raises(TrainingError, match="sympy") as error:
        list(corpora.make(tmp_path))
    assert "pip install 'subject-lora-serve[corpora]'" in str(error.value)


def test_a_corpus_that_cannot_be_made_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = [("Who was it?", "Cai Lun"), ("who  was it?", "Bi Sheng")]
    monkeypatch.setattr(corpora, "CORPORA", {"history": lambda: iter(twice)})
    (tmp_path / "history.jsonl").write_text("old")
    with pytest.raises(TrainingError, match="history: asked more than once: who was it"):
        list(corpora.make(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]
    assert (tmp_path / "history.jsonl").read_text() == "old"


@pytest.mark.parametrize("line", ["no tab", "a question?\t", "one\ttwo\tthree", "space \tafter"])
def test_a_line_of_facts_that_is_not_well_formed_is_named(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "facts"
    facts.mkdir()
    (facts / "general.tsv").write_text(f"# comment\nHow many?\tTwo\n{line}\n")
    monkeypatch.setattr(corpora, "DATA", tmp_path)
    with pytest.raises(TrainingError, match=r"general\.tsv, line 3: not 2 columns"):
        list(corpora.CORPORA["general"]())
