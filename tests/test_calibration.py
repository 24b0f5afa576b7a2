"""A gate is chosen where passages help, and proved on other questions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any

import pytest

from evaluation.questions import read
from kb import comparing
from kb.calibrate import main
from kb.calibration import calibrate, describe
from kb.choosing import Trial, best_gates, try_gate
from kb.making import make
from lab.knowledge import rows
from runtime import Settings
from runtime.common.errors import UserError
from runtime.common.intervals import sign_test
from runtime.files.routes import Route
from runtime.pipeline import Answer
from runtime.retrieval import Gate, Index, Retrieval
from runtime.retrieval.search import LONG, SHORT, find

pytest_plugins = ["tests.lands"]


class Scripted:
    """In place of a pipeline: right where `knows`, or where passages are shown and `copies`."""

    def __init__(self, knows: Any, copies: Any) -> None:
        self.settings = Settings.load(temperature=0.0)
        self.routes = {"geography": Route(Path(__file__))}
        self.asked = 0
        self._knows, self._copies = knows, copies

    def stream(self, records: Any, passages: Any, logprobs: bool = False) -> Iterator[Answer]:
        for index, (record, shown) in enumerate(zip(records, passages, strict=True)):
            self.asked += 1
            n = int(record["question"].rstrip("?").split()[-1])
            right = self._copies(n, shown) if shown else self._knows(n)
            answer = f"It is Town {n}." if right else "I think it is Paris."
            yield Answer(index, record["questionID"], answer, logprobs=(-1.0, -0.5))


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of the lands are in the base, and the model knows a fifth of all."""
    path = tmp_path_factory.mktemp("questions") / "lands.jsonl"
    lines = [
        {
            "questionID": n,
            "subject": "geography",
            "question": f"What is the capital of Land {n}?",
            "answer": f"Town {n}",
        }
        for n in range(80)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def _calibrated(lands: Path, questions: Path, pipeline: Scripted, **options: Any) -> Gate:
    index = Index.load(lands, "geography")
    return calibrate(pipeline, index, "geography", read(questions), **options)  # type: ignore[arg-type]


def test_a_gate_is_chosen_where_passages_help_and_proved_on_other_questions(
    lands: Path, questions: Path
) -> None:
    """The model copies what it is shown, and so errs where the passage is about another land."""
    pipeline = Scripted(lambda n: n % 5 == 0, lambda n, shown: f"Town {n}." in " ".join(shown))
    gate = _calibrated(lands, questions, pipeline)
    assert gate.mode == "threshold"
    assert (gate.model, gate.top_k) == (Path(__file__).name, 3)
    index = Index.load(lands, "geography")
    for n in range(80):
        found = find(index, f"What is the capital of Land {n}?", 3)
        assert gate.lets_through(found.features) == (n < 40), n
    chosen, proof = gate.evidence["chosen_on"], gate.evidence["proved_on"]
    assert chosen["questions"] == 32
    assert {each["feature"] for each in chosen["candidates"]} >= {"score", "doubt", "likelihood"}
    assert (proof["questions"], proof["lost"]) == (48, 0)
    assert proof["p"] <= 0.1
    assert pipeline.asked == 2 * 32 + 2 * proof["shown"]
    assert "gains" in describe(gate)


def test_as_much_is_shown_as_helps(folder: Path, questions: Path) -> None:
    """Where the answer stands in a sentence that few words point to, more sentences find it."""
    chatter = "Its capital is old. The capital is large. The capital has walls."
    raw = folder / "long.jsonl"
    texts = [
        {"title": f"Land {n}", "text": f"{chatter} All who have been there call it the king's."}
        for n in range(40)
    ]
    raw.write_text("\n".join(map(json.dumps, texts)))
    make("geography", [raw], folder)
    pipeline = Scripted(lambda n: n % 5 == 0, lambda n, shown: n < 40 and "king" in shown[0])
    gate = _calibrated(folder, questions, pipeline)
    assert (gate.mode, gate.most_words) == ("threshold", LONG)
    gate.save(folder)
    retrieval = Retrieval.load(folder, {"geography": True}, 3)
    (text,) = retrieval.passages("geography", "What is the capital of Land 3?")
    assert text.endswith("the king's.")
    assert gate.evidence["chosen_on"]["right_always"].keys() == {str(SHORT), str(LONG)}


@pytest.mark.parametrize("copies", [lambda n, shown: n % 5 == 0, lambda n, shown: n % 5 == 1])
def test_off_is_said_where_nothing_helps(lands: Path, questions: Path, copies: Any) -> None:
    """Passages that change nothing, and passages that gain as many answers as they lose."""
    gate = _calibrated(lands, questions, Scripted(lambda n: n % 5 == 0, copies))
    assert gate.mode == "off"
    assert "geography: off" in describe(gate)


def test_what_helps_only_where_it_was_chosen_is_off(lands: Path, questions: Path) -> None:
    """The proof decides: the others lose what the chosen ones gain."""
    first: set[int] = set()

    def copies(n: int, shown: Sequence[str]) -> bool:
        first.add(n)
        return len(first) <= 32

    gate = _calibrated(lands, questions, Scripted(lambda n: len(first) >= 32, copies))
    assert gate.mode == "off"
    assert gate.evidence["proved_on"]["gained"] == 0


def test_a_stopped_calibration_goes_on(lands: Path, questions: Path, tmp_path: Path) -> None:
    journal = tmp_path / "answers.jsonl"

    (tmp_path / "a.gguf").write_text("a")

    def fresh() -> Scripted:
        pipeline = Scripted(lambda n: False, lambda n, shown: n < 40)
        pipeline.routes = {"geography": Route(tmp_path / "a.gguf")}
        return pipeline

    first, second, third = fresh(), fresh(), fresh()
    gate = _calibrated(lands, questions, first, journal=journal)
    assert _calibrated(lands, questions, second, journal=journal) == gate
    assert (first.asked > 64, second.asked) == (True, 0)
    for _ in range(2):  # killed twice, each time in the middle of a line
        lines = journal.read_text("utf-8").splitlines(keepends=True)
        journal.write_text("".join([*lines[:-1], lines[-1][:20]]), "utf-8")
        third.asked = 0
        assert _calibrated(lands, questions, third, journal=journal) == gate
        assert third.asked == 1
    fourth, fifth = fresh(), fresh()
    fourth.settings = Settings.load(temperature=0.0, repetition_penalty=1.5)
    _calibrated(lands, questions, fourth, journal=journal)
    (tmp_path / "a.gguf").write_text("another model of this name")
    _calibrated(lands, questions, fifth, journal=journal)
    assert first.asked == fourth.asked == fifth.asked
    journal.write_text("{}\n" + lines[0])
    with pytest.raises(UserError, match=r"answers\.jsonl has records of another kind"):
        _calibrated(lands, questions, fresh(), journal=journal)


def test_the_benchmark_puts_off_always_and_gated_side_by_side(
    lands: Path, folder: Path, questions: Path
) -> None:
    pipeline = Scripted(lambda n: n % 5 == 0, lambda n, shown: f"Town {n}." in " ".join(shown))
    _calibrated(lands, questions, pipeline).save(folder)
    pipeline.asked = 0
    items = [item for item in read(questions).items if item is not None]
    always, gated = (Retrieval.load(folder, {"geography": use}, 3) for use in ("always", True))
    found, through = comparing.ways(pipeline, "geography", items, always, gated)  # type: ignore[arg-type]
    right = {way: [n for n in range(80) if part.right[n]] for way, part in found.items()}
    assert right == {
        "off": list(range(0, 80, 5)),
        "always": list(range(40)),
        "gated": [*range(40), *range(40, 80, 5)],
    }
    assert (through, pipeline.asked) == (40, 160)
    off, each, gate = rows("geography", found, through)
    assert "| 0 of 80 | 16 (20.0%) |" in off
    assert off.endswith("| 1.00 |")
    assert "| 80 of 80 | 40 (50.0%) |" in each
    assert "| +32 −8 |" in each
    assert "| 40 of 80 | 48 (60.0%) |" in gate
    assert "| +32 −0 |" in gate


def test_too_few_questions_are_refused(lands: Path, tmp_path: Path) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text('{"questionID": 1, "subject": "geo", "question": "Who?", "answer": "I"}')
    with pytest.raises(UserError, match=r"few\.jsonl: 1 questions of geography; 20 are needed"):
        _calibrated(lands, path, Scripted(bool, bool))


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--limit", "0", "at least 1"),
        ("--limit", "-5", "at least 1"),
        ("--share", "1.0", "between 0 and 1"),
        ("--most-luck", "nan", "from 0 to 1"),
        ("--most-luck", "7.0", "from 0 to 1"),
    ],
)
def test_wrong_numbers_are_refused(
    option: str, value: str, allowed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--subject", "geography", "--questions", "x.jsonl", option, value]) == 1
    assert f"error: {option} {value}: must be {allowed}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(0, 0, 1.0), (5, 0, 1 / 32), (5, 1, 7 / 64), (1, 5, 63 / 64), (12, 11, 0.5)],
)
def test_the_sign_test_is_exact(gained: int, lost: int, p: float) -> None:
    assert sign_test(gained, lost) == pytest.approx(p)


def test_the_threshold_of_most_merit_is_taken() -> None:
    trials = [
        *[Trial({"score": 3.0}, without=False, shown=True)] * 4,
        *[Trial({"score": 2.0}, without=False, shown=False)] * 4,
        *[Trial({"score": 1.0}, without=True, shown=False)] * 4,
    ]
    score, always = best_gates(["score"], SHORT, trials)
    assert (score.at_least, score.shown, score.gained, score.lost) == (3.0, 4, 4, 0)
    assert (always.at_least, always.shown, always.gained, always.lost) == (-inf, 12, 4, 4)
    assert score.merit == 2.0 > always.merit
    assert try_gate("score", 2.0, SHORT, trials).shown == 8
