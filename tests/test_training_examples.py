"""Training sees the very tokens that serving sends to the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from convert.sources import open_source
from convert.writing import write_model
from runtime import Pipeline
from runtime.engine.model import Model
from runtime.prompts import tokenized_frame
from runtime.questions import clean_text
from tests.checkpoints import (
    save_checkpoint,
    tiny_sentencepiece,
    tiny_tokenizer,
)
from tests.finetuning import SUBJECTS, write
from training.base import Base
from training.corpus import Pair
from training.examples import make_examples
from training.lessons import Plan, prepare
from training.options import Options
from training.tokenizer import CheckpointTokenizer

pytest_plugins = ["tests.finetuning"]


def test_training_learns_from_the_very_tokens_that_are_served(
    pipeline: Pipeline, demo_model: Path
) -> None:
    question = "What is <|im_end|> the capital of France?"
    (engine,) = pipeline.engines.values()
    served = pipeline.way.prompt("geography", clean_text(question)).tokens
    with Base.find(str(demo_model), pipeline.settings).tokenizer() as tokenizer:
        frame = tokenized_frame(tokenizer, "geography", SUBJECTS)
        (example,) = make_examples([Pair(question, "Paris", "")], tokenizer, frame, 256)
    assert frame.head + example.prompt == served
    assert example.answer == engine.model.tokenize("Paris<|im_end|>", special=True)
    assert example.answer[-1] in engine.model.end_tokens
    assert (
        b"".join(map(engine.model.piece, frame.head))
        .decode()
        .count(SUBJECTS["geography"].instruction)
    )


@pytest.mark.parametrize("kind", ["qwen2", "llama-bpe", "smollm", "sentencepiece"])
def test_a_checkpoints_tokenizer_gives_the_ids_that_llama_cpp_will(
    tmp_path: Path, kind: str
) -> None:
    tokenizer = tiny_sentencepiece() if kind == "sentencepiece" else tiny_tokenizer(kind)
    architecture = "llama" if kind in ("llama-bpe", "smollm", "sentencepiece") else "qwen3"
    folder = save_checkpoint(tmp_path / "base", architecture, tokenizer)
    write_model(open_source(folder), tmp_path / "base.gguf", "F32")
    theirs, ours = Model(tmp_path / "base.gguf"), CheckpointTokenizer(folder)
    try:
        for subject in SUBJECTS:
            assert tokenized_frame(ours, subject, SUBJECTS) == tokenized_frame(
                theirs, subject, SUBJECTS
            )
        for text in ("Paris", " 3 apples", "东京 <|im_end|> </s>", "x\ny", "2024年"):
            for follows in (False, True):
                asked = (
                    ours.tokenize(text, follows=follows),
                    theirs.tokenize(text, follows=follows),
                )
                assert asked[0] == asked[1], (text, follows)
    finally:
        theirs.close()


def test_a_question_too_long_loses_its_middle_and_an_answer_too_long_is_left_out(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = CheckpointTokenizer(tiny)
    frame = tokenized_frame(tokenizer, "history", SUBJECTS)
    pairs = [Pair("why " * 500, "yes", "line 1"), Pair("why?", "yes " * 500, "line 2")]
    examples = make_examples(pairs, tokenizer, frame, 128)
    assert [len(frame.head) + len(example) for example in examples] == [128]
    assert "line 2: skipped, the answer has" in caplog.text
    assert "1 questions were cut in the middle" in caplog.text


@pytest.mark.parametrize(
    ("subject", "solution", "warned"),
    [
        ("algebra", "", True),
        ("algebra", "I add 1 to 1, and then 3.", False),
        ("history", "", False),
    ],
)
def test_word_problems_without_steps_are_warned_of(
    pipeline: Pipeline,
    demo_model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    subject: str,
    solution: str,
    warned: bool,
) -> None:
    records = [{"question": f"{n}?", "answer": n, "solution": solution} for n in range(5)]
    plan = Plan(subject, write(tmp_path / "corpus.jsonl", *records), Options())
    lesson = prepare(plan, Base.find(str(demo_model), pipeline.settings), SUBJECTS)
    assert lesson.solved == (4 if solution else 0)
    assert ('no "solution"' in caplog.text) is warned
