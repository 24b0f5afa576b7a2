"""`--knowledge`: an adapter that learns with passages before some of its questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kb.making import make
from runtime.prompts import prompt_tokens, tokenized_frame
from runtime.retrieval import Index
from runtime.retrieval.search import LONG, SHORT, find
from runtime.settings import Settings
from tests.checkpoints import save_checkpoint, tiny_tokenizer
from training.card import Card
from training.corpus import Pair
from training.examples import make_examples
from training.finetune import main
from training.informed import tells, with_passages
from training.tokenizer import CheckpointTokenizer

FACTS = [
    ("Peru", "Its capital is Lima. It lies by the sea."),
    ("Chile", "Its capital is Santiago. It is long."),
    ("Kenya", "Its capital is Nairobi. It lies in the east."),
    ("Mali", "Its river is the Niger. It lies in the west."),
]
# Among these a word of the facts above is rare, as in a base of real size.
OTHERS = [(f"Town {n}", f"It has {n} bells.") for n in range(100)]


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kb")
    raw = folder / "facts.tsv"
    raw.write_text("".join(f"{title}\t{text}\n" for title, text in FACTS + OTHERS), "utf-8")
    make("geography", [raw], folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny-chat", "qwen3", tiny_tokenizer())


def pair(question: str, answer: str) -> Pair:
    return Pair(question, answer, "line 1")


def test_a_question_comes_bare_and_behind_what_serving_would_show(kb: Path) -> None:
    index = Index.load(kb, "geography")
    asked = [pair("What is the capital of Peru?", "Lima")] * 2
    bare, informed, bare_again, longer = with_passages(asked, index, top_k=3)
    assert bare == bare_again == asked[0]
    assert (informed.question, informed.answer) == (bare.question, bare.answer)
    for shown, words in ((informed, SHORT), (longer, LONG)):
        assert list(shown.passages) == find(index, bare.question, 3, words).passages
    assert tells(informed.passages, "Lima")


def test_a_right_passage_that_a_search_misses_is_shown_among_others(kb: Path) -> None:
    index = Index.load(kb, "geography")
    question = "Which city lies in the east?"
    assert not tells(find(index, question, 1).passages, "Santiago")
    _, informed = with_passages([pair(question, "Santiago")], index, top_k=2)
    assert tells(informed.passages, "Santiago")


def test_where_no_passage_tells_the_answer_wrong_ones_are_shown_alone(kb: Path) -> None:
    index = Index.load(kb, "geography")
    _, informed = with_passages([pair("What is the capital of Peru?", "Atlantis")], index, 3)
    assert informed.passages
    assert not tells(informed.passages, "Atlantis")


def test_a_question_that_nothing_is_found_for_comes_once(kb: Path) -> None:
    asked = [pair("Who sang zzz?", "Qqq")]
    assert with_passages(asked, Index.load(kb, "geography"), 3) == asked


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("Lima", True),
        ("lima.", True),
        ("capital is Lima", True),
        ("Lim", False),
        ("Lima capital", False),
        ("The Who", False),
        ("", False),
    ],
)
def test_an_answer_is_told_word_for_word(answer: str, told: bool) -> None:
    assert tells(["Chile is long.", "Peru: Its capital is Lima."], answer) is told


def test_an_informed_example_is_the_very_prompt_that_is_served(kb: Path, tiny: Path) -> None:
    tokenizer = CheckpointTokenizer(tiny)
    frame = tokenized_frame(tokenizer, "geography", Settings.load().subjects)
    index = Index.load(kb, "geography")
    asked = with_passages([pair("What is the capital of Peru?", "Lima")], index, 3)
    _, informed = make_examples(asked, tokenizer, frame, max_tokens=2000)
    shown = find(index, asked[0].question, 3).passages
    served, _ = prompt_tokens(tokenizer, frame, asked[0].question, 2000, shown)
    assert frame.head + informed.prompt == served


def test_the_card_tells_of_the_base_and_another_base_is_another_training(
    kb: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    records = [
        {"question": f"What is the capital of {title}, {n}?", "answer": text.split()[3]}
        for n in range(3)
        for title, text in FACTS
    ]
    corpus.write_text("\n".join(map(json.dumps, records)) + "\n", "utf-8")
    arguments = [
        *("--model", str(tiny), "--out", str(tmp_path / "loras"), "--rank", "4"),
        *("--batch_size", "4", "--epochs", "1"),
        *("--data_geography", str(corpus), "--data_history", str(corpus)),
    ]
    assert main([*arguments, "--knowledge", str(kb)]) == 0
    cards = {
        subject: Card.model_validate_json(
            (tmp_path / "loras" / f"tiny-chat-lora-{subject}" / "training.json").read_bytes()
        )
        for subject in ("geography", "history")
    }
    informed, plain = cards["geography"], cards["history"]
    assert informed.knowledge_sha256 == Index.load(kb, "geography").base_sha256
    assert informed.informed == informed.examples - plain.examples == plain.examples
    assert plain.knowledge_sha256 is None  # there is no base of history
    capsys.readouterr()
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "geography: up to date" not in said
    assert "history: up to date" in said


def test_a_folder_without_a_base_of_the_subjects_is_an_error(
    tiny: Path, kb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"question": "a", "answer": "b"}\n' * 4, "utf-8")
    arguments = ["--model", str(tiny), "--data_history", str(corpus), "--knowledge", str(kb)]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert f"--knowledge {kb}: has no base for history" in error
    assert "kb.preprocess" in error
