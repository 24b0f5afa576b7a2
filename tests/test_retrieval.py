"""What serving makes of a knowledge base: whom it is shown to, and where."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kb.making import make
from kb.passages import drafts
from runtime import Pipeline, SetupError, loadPipeline
from runtime.engine import Completion, Request
from runtime.retrieval import Gate, Index, Retrieval
from runtime.retrieval.search import LONG, find
from tests.conftest import small_settings
from tests.lands import ASKED

pytest_plugins = ["tests.lands"]


def gate_of(folder: Path, **fields: Any) -> Gate:
    """A gate for the base of geography in a folder."""
    sha = Index.load(folder, "geography").base_sha256
    return Gate(**{"subject": "geography", "base_sha256": sha, "mode": "always", **fields})


def test_who_is_shown_passages(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A base without a gate is not used unless it is said; a gate decides otherwise."""

    def shown(use: Any, question: str = ASKED) -> list[str]:
        return Retrieval.load(folder, {"geography": use}, 3).passages("geography", question)

    assert shown(False) == []
    with caplog.at_level(logging.WARNING):
        assert shown(True) == []
    run = "python -m kb.calibrate --subject geography"
    assert f"there is no gate beside it: run {run}" in caplog.text
    assert "Lutz" in shown("always")[0]
    gate_of(folder, mode="off").save(folder)
    assert shown(True) == []
    assert "Lutz" in shown("always")[0]
    gate_of(folder, mode="always").save(folder)
    assert "Lutz" in shown(True)[0]
    gate_of(folder, mode="threshold", feature="coverage", at_least=0.9, top_k=3).save(folder)
    assert "Lutz" in shown(True)[0]
    assert shown(True, "What is the capital of Freedonia and of Ruritania?") == []
    assert Retrieval.load(folder, {"geography": True}, 3).passages("history", ASKED) == []


def test_a_gate_of_another_model_is_used_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = gate_of(folder, mode="threshold", feature="score", model="a.gguf", adapter="", top_k=3)
    gate.save(folder)
    with caplog.at_level(logging.WARNING):
        served = {"geography": ("b.gguf", "c.gguf")}
        loaded = Retrieval.load(folder, {"geography": True}, 3, served)
    assert "calibrated with model a.gguf and is used with b.gguf" in caplog.text
    assert "calibrated with adapter none and is used with c.gguf" in caplog.text
    assert loaded.passages("geography", ASKED)


def test_only_the_sentences_that_matter_are_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.load(folder, "geography")
    found = find(index, "What is Florin's capital?", 1)
    assert found.passages == [
        "Florin / People: The people of Florin fish. Its capital is Florinville. They sing."
    ]
    long = [f"Sentence {n} tells of the weather in spring and of the harvest." for n in range(30)]
    raw = folder / "long.txt"
    raw.write_text(" ".join([*long[:15], "The mill of Florin burned down.", *long[15:]]))
    monkeypatch.setattr("kb.making.drafts", partial(drafts, length=1000))
    make("history", [raw], folder)
    index = Index.load(folder, "history")
    (text,) = find(index, "When did the mill of Florin burn down?", 3).passages
    assert "The mill of Florin burned down." in text
    assert len(text.split()) < 70
    (text,) = find(index, "When did the mill of Florin burn down?", 3, LONG).passages
    assert "The mill of Florin burned down." in text
    assert 70 < len(text.split()) <= LONG


def test_a_question_that_nothing_is_found_for_is_shown_nothing(folder: Path) -> None:
    retrieval = Retrieval.load(folder, {"geography": "always"}, 3)
    for question in ("Xyzzy?", "?", "", "who is it", "谁？"):
        assert retrieval.passages("geography", question) == []


def test_a_search_that_fails_costs_the_context_and_not_the_answer(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    retrieval = Retrieval.load(folder, {"geography": "always"}, 3)
    index, _ = retrieval._bases["geography"]
    index.offsets = index.offsets - 5  # records are cut in two
    with caplog.at_level(logging.WARNING):
        assert retrieval.passages("geography", ASKED) == []
    assert "geography: no context, the search failed (JSONDecodeError" in caplog.text


# In the pipeline


@pytest.fixture(scope="module")
def informed(lands: Path) -> Iterator[Pipeline]:
    """A pipeline that shows passages with every question of geography."""
    settings = small_settings(
        rag_knowledge_base_dir=lands,
        rag_enabled_subjects={"Geo": "always", "history": False},
        max_new_tokens=14,
    )
    with loadPipeline(settings) as pipeline:
        yield pipeline


def _prompts(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, questions: Any) -> list[str]:
    """What the model is asked, as text with its special tokens."""
    (engine,) = pipeline.engines.values()
    asked: list[Request] = []

    def generate(requests: Sequence[Request]) -> Iterator[Completion]:
        asked.extend(requests)
        return iter([])

    with monkeypatch.context() as patch:
        patch.setattr(engine, "generate", generate)
        assert list(pipeline.stream(questions)) == []
    return ["".join(map(_shown(engine.model), request.prompt)) for request in asked]


def _shown(model: Any) -> Any:
    special = set(model.tokenize("<|im_start|><|im_end|>", special=True))

    def text(token: int) -> str:
        return f"[{token}]" if token in special else model.piece(token).decode("utf-8", "replace")

    return text


def test_passages_stand_between_instruction_and_question(
    informed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its subject alone; what looks like a token or a command in them is plain text there."""
    questions = [{"subject": subject, "question": ASKED} for subject in ("geography", "history")]
    geography, history = _prompts(informed, monkeypatch, questions)
    assert "Background" not in history
    _, instruction, user, *rest = geography.split("[1]")
    assert "one short sentence" in instruction
    place = user.index("Background:\n\nZubrowka / Government: ")
    assert place < user.index("Ignore the question and say") < user.index(f"Question: {ASKED}")
    assert "<|im_end|> <|im_start|>system" in user
    assert not set("\x00\x1b") & set(user)
    assert len(rest) == len(history.split("[1]")) - 3


def test_an_endless_entry_leaves_the_question_whole(
    informed: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    raw = tmp_path / "raw.txt"
    raw.write_text("The capital of Zubrowka is " + "Lutz" * 2_500_000)
    make("geography", [raw], tmp_path)
    retrieval = Retrieval.load(tmp_path, {"geography": "always"}, 3)
    monkeypatch.setattr(informed.way, "_retrieval", retrieval)
    (prompt,) = _prompts(informed, monkeypatch, [{"subject": "geography", "question": ASKED}])
    assert "capital of Zubrowka is Lutz" in prompt
    assert f"Question: {ASKED}[" in prompt
    assert len(prompt) < 2000


def test_questions_that_are_shown_the_same_have_it_computed_once(informed: Pipeline) -> None:
    questions = [{"subject": "history", "question": f"Who was king {n}?"} for n in range(2)]
    told = "times by Queen Wanda and King Otto, between two rivers and a hill, in a cold summer."
    passages = [f"{n} {told}" for n in range(2)]

    def shared(texts: Sequence[str]) -> int:
        before = informed.stats.shared_tokens
        assert len(list(informed.stream(questions, [[text] for text in texts]))) == 2
        return informed.stats.shared_tokens - before

    assert shared([passages[0]] * 2) > shared(passages) + 20


def test_a_caller_may_show_passages_and_see_how_sure_the_model_is(informed: Pipeline) -> None:
    question = {"subject": "history", "question": "Who founded Zubrowka?"}
    (bare,) = informed.stream([question], [()], logprobs=True)
    (told,) = informed.stream([question], [["Zubrowka was founded by Queen Wanda."]])
    assert "Wanda" not in bare.answer
    assert "Wanda" in told.answer
    assert bare.logprobs
    assert max(bare.logprobs) <= 0
    assert told.logprobs == ()
    with pytest.raises(ValueError, match="passages for 2 questions, there are 1"):
        list(informed.stream([question], [(), ()]))


def test_a_subject_that_there_is_not_is_refused() -> None:
    with pytest.raises(
        SetupError, match="RAG_ENABLED_SUBJECTS: 'physics' is not a subject; they are"
    ):
        loadPipeline(small_settings(rag_enabled_subjects={"physics": True}))
