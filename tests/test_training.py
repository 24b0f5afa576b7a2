"""`python -m training.finetune`: from a corpus to an adapter."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from convert.comparison import GgufModel, compare, transformers_model
from convert.export_gguf import main as export
from convert.sources import open_source
from convert.writing import write_model
from runtime import Pipeline, loadPipeline
from runtime.engine.model import Model
from runtime.prompts import tokenized_frame
from runtime.questions import clean_text
from runtime.settings import PROJECT_DIR, Settings
from runtime.subjects import Subjects
from tests.checkpoints import (
    save_checkpoint,
    save_lora,
    tiny_sentencepiece,
    tiny_tokenizer,
)
from tests.conftest import small_settings
from training.base import Base, choose_device, in_four_bits
from training.card import Card
from training.corpus import Pair, read_corpus, split
from training.errors import TrainingError
from training.examples import IGNORED, Example, collate, make_examples
from training.finetune import main
from training.options import Options
from training.tokenizer import CheckpointTokenizer
from training.trainer import AnswerTrainer, ByLength

SUBJECTS = Subjects.load()
FAST = ["--batch_size", "4", "--learning_rate", "0.01", "--rank", "4"]
PLACES = ["Norway", "Chile", "Kenya", "Japan", "Cuba", "Peru", "Egypt", "India", "Laos", "Mali"]
RECORDS = [
    {"question": f"{verb} {place}{'?' * (n % 3 + 1)}", "answer": f"{place} is here"}
    for verb in ("Where is", "Please tell me where one finds the place that is called")
    for n, place in enumerate(PLACES)
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint called tiny-chat."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny-chat"
    return save_checkpoint(folder, "qwen3", tiny_tokenizer())


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write(tmp_path / "corpus.jsonl", *RECORDS)


def write(path: Path, *records: Any) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def finetune(tiny: Path, out: Path, *arguments: str | Path, status: int = 0) -> None:
    assert main([str(a) for a in ("--model", tiny, "--out", out, *FAST, *arguments)]) == status


def adapter(out: Path, subject: str = "geography") -> Path:
    return out / f"tiny-chat-lora-{subject}"


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


# --- corpora ----------------------------------------------------------------------


def test_a_corpus_is_json_lines_or_a_json_list(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.jsonl", *RECORDS)
    (tmp_path / "a.json").write_text(json.dumps(RECORDS))
    read = [
        [(p.question, p.answer) for p in read_corpus(f, False)]
        for f in (lines, tmp_path / "a.json")
    ]
    assert read[0] == read[1] == [(r["question"], r["answer"]) for r in RECORDS]


BAD: list[tuple[Any, str]] = [
    ("{not json", "is not JSON"),
    ("[1, 2]", "is a list, not an object"),
    ({"question": "Why?"}, 'has no "answer"'),
    ({"question": None, "answer": "x"}, 'has no "question"'),
    ({"question": " \n", "answer": "x"}, "has an empty question"),
    ({"question": "Why?", "answer": ["x"]}, "has a answer that is a list, not a text"),
    ({"question": "Why?", "answer": True}, "has a answer that is a bool"),
]


def test_bad_records_are_named_by_file_and_line_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "c.jsonl", *RECORDS, *(record for record, _ in BAD))
    assert len(read_corpus(path, skip_bad=True)) == len(RECORDS)
    for n, (_, problem) in enumerate(BAD, start=len(RECORDS) + 1):
        assert f"{path}, line {n} {problem}" in caplog.text
    assert f"{len(BAD)} of {len(RECORDS) + len(BAD)} records left out" in caplog.text


def test_bad_records_are_refused_if_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", *RECORDS, BAD[0][0])
    with pytest.raises(TrainingError, match=rf"line {len(RECORDS) + 1} is not JSON"):
        read_corpus(path, skip_bad=False)


def test_numbers_are_answers_too(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", {"question": "1+1?", "answer": 2}, RECORDS[0])
    assert read_corpus(path, skip_bad=False)[0].answer == "2"


def test_what_is_held_out_is_not_learned() -> None:
    pairs = [Pair(f"question {n // 2}" + " " * (n % 2), "a", "") for n in range(40)]
    train, held_out = split(pairs, 0.2, seed=3)
    asked = [{" ".join(p.question.split()) for p in part} for part in (train, held_out)]
    assert not asked[0] & asked[1]
    assert (len(train), len(held_out)) == (32, 8)
    assert split(pairs, 0.2, seed=3) == (train, held_out)
    assert split(pairs, 0.2, seed=4) != (train, held_out)
    assert split(pairs, 0, seed=3)[1] == []


# --- the prompt is the runtime's ------------------------------------------------------


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
    assert "line 2: an answer of" in caplog.text
    assert "1 questions lost their middle" in caplog.text


# --- the loss -------------------------------------------------------------------------


EXAMPLES = [
    Example([9, 10, 11], [12, 13]),
    Example([14], [15]),
    Example([16, 17], [18, 19, 20]),
]


def _trainer(tiny: Path, folder: Path, head: list[int], **options: Any) -> AnswerTrainer:
    save_lora(folder / "lora", tiny)
    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    if options.get("gradient_checkpointing"):
        base.enable_input_require_grads()
    model = PeftModel.from_pretrained(base, folder / "lora", is_trainable=True)
    return AnswerTrainer(
        model, head, [Example([1], [2])], [], folder, Options(dropout=0, **options), use_cpu=True
    )


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_loss_is_that_of_the_answers_tokens_and_so_are_the_gradients(
    tiny: Path, tmp_path: Path, checkpointing: bool
) -> None:
    head = [5, 6, 7, 8]
    trainer = _trainer(tiny, tmp_path, head, gradient_checkpointing=checkpointing)
    model = trainer.model
    trainable = [p for p in model.parameters() if p.requires_grad]
    losses = []
    for example in EXAMPLES:
        ids = torch.tensor([head + example.prompt + example.answer])
        labels = ids.clone()
        labels[:, : len(head) + len(example.prompt)] = IGNORED
        losses.append(model(input_ids=ids, labels=labels).loss * len(example.answer))
    expected = sum(losses) / 6
    gradients = torch.autograd.grad(expected, trainable)
    model.train()
    loss = trainer.compute_loss(model, collate(EXAMPLES))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(torch.autograd.grad(loss, trainable), gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_the_output_head_is_given_the_answers_alone_and_without_gaps(
    tiny: Path, tmp_path: Path
) -> None:
    """With gaps torch would copy all its weights for each example, two fifths of a step's time."""
    trainer = _trainer(tiny, tmp_path, head=[5, 6, 7, 8])
    given = []
    trainer.model.get_output_embeddings().register_forward_pre_hook(
        lambda _, inputs: given.append((inputs[0].shape[:2], inputs[0].is_contiguous()))
    )
    batch = collate(EXAMPLES)
    trainer.compute_loss(trainer.model, batch)
    longest_answer = max(len(example.answer) for example in EXAMPLES)
    assert longest_answer + 1 < batch["input_ids"].shape[1]
    assert given == [((len(EXAMPLES), longest_answer + 1), True)]


def test_accumulated_batches_weigh_each_token_alike(tiny: Path, tmp_path: Path) -> None:
    trainer = _trainer(tiny, tmp_path, [5, 6])
    whole = trainer.compute_loss(trainer.model, collate(EXAMPLES))
    parts = [
        trainer.compute_loss(trainer.model, collate(part), num_items_in_batch=6)
        for part in (EXAMPLES[:1], EXAMPLES[1:])
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-5)


def test_batches_are_of_like_length_and_their_order_depends_on_seed_and_epoch_alone() -> None:
    examples = [Example([1] * (n % 40 + 1), [2]) for n in range(400)]

    def epoch(seed: int, number: int) -> list[int]:
        sampler = ByLength(examples, 8, seed)
        sampler.set_epoch(number)
        return list(sampler)

    assert sorted(epoch(0, 0)) == list(range(400))
    assert epoch(0, 1) == epoch(0, 1) != epoch(0, 0)
    assert epoch(1, 0) != epoch(0, 0)
    lengths = np.array([len(examples[i]) for i in epoch(0, 0)]).reshape(50, 8)
    assert (lengths.max(axis=1) - lengths.min(axis=1)).mean() < 4


# --- the command ----------------------------------------------------------------------


def test_a_corpus_becomes_an_adapter_in_a_folder_that_the_runtime_finds(
    tiny: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "loras"
    finetune(tiny, out, "--data_geography", corpus, "--epochs", "6")
    assert names(out) == {"tiny-chat-lora-geography"}
    folder = adapter(out)
    assert names(folder) == {"README.md", "adapter_config.json", "adapter_model.safetensors"} | {
        "loss.jsonl",
        "loss.png",
        "training.json",
    }
    card = Card.model_validate_json((folder / "training.json").read_bytes())
    assert (card.base, card.subject, card.examples, card.held_out) == (
        "tiny-chat",
        "geography",
        18,
        2,
    )
    assert card.options.rank == 4
    assert card.held_out_loss is not None
    assert card.held_out_loss[1] < card.held_out_loss[0] * 0.7
    losses = [json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()]
    assert [e["step"] for e in losses if "loss" in e] == list(range(1, card.steps + 1))
    assert "tiny-chat" in (folder / "README.md").read_text()
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 4

    before = weights(folder)
    capsys.readouterr()
    finetune(tiny, out, "--data_geography", corpus, "--epochs", "6")
    assert "up to date" in capsys.readouterr().out
    finetune(tiny, out, "--data_geography", corpus, "--epochs", "1")
    assert "up to date" not in capsys.readouterr().out
    assert weights(folder) != before
    assert names(out) == {"tiny-chat-lora-geography"}


def test_one_bad_corpus_costs_the_other_subjects_nothing(
    tiny: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.jsonl"
    arguments = ["--data_algebra", missing, "--data_history", corpus, "--epochs", "1"]
    finetune(tiny, tmp_path / "out", *arguments, status=1)
    assert f"error: algebra: {missing}: cannot be read" in capsys.readouterr().err
    assert names(tmp_path / "out") == {"tiny-chat-lora-history"}


def test_the_same_seed_gives_the_same_adapter(tiny: Path, corpus: Path, tmp_path: Path) -> None:
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        finetune(tiny, tmp_path / out, "--data_history", corpus, "--epochs", "1", "--seed", seed)
    a, b, c = (weights(adapter(tmp_path / out, "history")) for out in "abc")
    assert a == b != c


def test_training_stops_early_and_keeps_the_best(tiny: Path, tmp_path: Path) -> None:
    random = [{"question": f"Where is {n}?", "answer": str(n * 7919 % 9973)} for n in range(24)]
    corpus = write(tmp_path / "random.jsonl", *random)
    arguments = ["--epochs", "60", "--check_every", "3", "--patience", "2", "--holdout", "0.3"]
    finetune(tiny, tmp_path, "--data_geography", corpus, *arguments)
    card = Card.model_validate_json((adapter(tmp_path) / "training.json").read_bytes())
    lines = (adapter(tmp_path) / "loss.jsonl").read_text().splitlines()
    held_out = {e["step"]: e["eval_loss"] for e in map(json.loads, lines) if "eval_loss" in e}
    assert card.best_step == min(held_out, key=lambda step: (held_out[step], step)) < card.steps
    assert card.steps == card.best_step + 2 * 3 < 60 * 5


def test_a_gguf_file_is_a_base_as_well(corpus: Path, tmp_path: Path) -> None:
    tiny = save_checkpoint(tmp_path / "tiny-chat", "llama", tiny_tokenizer("smollm"))
    write_model(open_source(tiny), tmp_path / "tiny-chat.gguf", "F32")
    arguments = ["--data_geography", corpus, "--epochs", "1", "--dropout", "0"]
    finetune(tiny, tmp_path / "a", *arguments)
    finetune(tmp_path / "tiny-chat.gguf", tmp_path / "b", *arguments)
    one, other = (load_file(adapter(tmp_path / out) / "adapter_model.safetensors") for out in "ab")
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    "options", [["--gradient_checkpointing"], ["--accumulation", "2"], ["--precision", "bfloat16"]]
)
def test_ways_to_save_memory_learn_as_well(
    tiny: Path, corpus: Path, tmp_path: Path, options: list[str]
) -> None:
    finetune(tiny, tmp_path, "--data_geography", corpus, "--epochs", "6", *options)
    card = Card.model_validate_json((adapter(tmp_path) / "training.json").read_bytes())
    assert card.held_out_loss is not None
    assert card.held_out_loss[1] < card.held_out_loss[0] * 0.7


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--rank", "0"], "--rank 0: must be at least 1"),
        (["--epochs", "many"], "--epochs many: must be a number"),
        (["--schedule", "steep"], "--schedule steep: must be one of cosine, linear, constant"),
        (["--target_modules", "no_such"], "--target-modules no_such: "),
        (["--four_bit", "on"], "--four-bit on needs a CUDA GPU"),
        (["--learning_rate", "1e30"], "the loss is not a number any more"),
        (["--model", "no/such-model"], "--model no/such-model: no such folder or file"),
    ],
)
def test_wrong_options_are_named(
    tiny: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    problem: str,
) -> None:
    finetune(tiny, tmp_path / "out", "--data_geography", corpus, *arguments, status=1)
    assert problem in capsys.readouterr().err
    assert not adapter(tmp_path / "out").exists()


def test_options_have_dashes_and_older_spellings_work(
    tiny: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out, given in (
        ("a", ["--data-geography", corpus, "--batch-size", "5", "--check-every=7"]),
        ("b", [f"--data_geography={corpus}", "--batch_size=5", "--check_every", "7"]),
    ):
        finetune(tiny, tmp_path / out, *given, "--epochs", "1")
        card = Card.model_validate_json((adapter(tmp_path / out) / "training.json").read_bytes())
        assert (card.options.batch_size, card.options.check_every) == (5, 7)
    finetune(tiny, tmp_path, "--data-astrology", corpus, status=1)
    assert "--data-astrology: no such subject; there are --data-algebra" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["--model", "demo", "--data-history", "--resume"])
    assert ended.value.code == 2
    assert "argument --data-history: expected a file" in capsys.readouterr().err


def test_every_wrong_option_is_named_at_once() -> None:
    wrong = {"rank": "2.5", "dropout": "1", "alpha": "0", "seed": "-1", "epochs": "nan"}
    with pytest.raises(TrainingError) as error:
        Options.parse(wrong)
    assert str(error.value).splitlines() == [
        "--rank 2.5: must be a whole number",
        "--alpha 0: must be over 0",
        "--dropout 1: must be under 1",
        "--epochs nan: must be a number",
        "--seed -1: must be at least 0",
    ]


def test_without_a_corpus_the_options_for_one_are_named(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(tiny, tmp_path, status=1)
    assert "--data-algebra, --data-geography" in capsys.readouterr().err


def test_a_broken_base_is_an_error(
    tiny: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base").mkdir()
    for path in tiny.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / "base" / path.name).write_bytes(path.read_bytes())
    finetune(tmp_path / "base", tmp_path / "out", "--data_history", corpus, status=1)
    assert "transformers cannot load it" in capsys.readouterr().err


def test_four_bits_are_taken_where_cuda_and_bitsandbytes_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: Any = object()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    assert in_four_bits(Options(), use_cpu=False, is_gguf=False)
    assert not in_four_bits(Options(), use_cpu=True, is_gguf=False)
    assert not in_four_bits(Options(), use_cpu=False, is_gguf=True)
    assert not in_four_bits(Options(four_bit="off"), use_cpu=False, is_gguf=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not in_four_bits(Options(), use_cpu=False, is_gguf=False)
    with pytest.raises(TrainingError, match="pip install bitsandbytes"):
        in_four_bits(Options(four_bit="on"), use_cpu=False, is_gguf=False)


# --- killed, full, resumed --------------------------------------------------------------


def command(tiny: Path, out: Path, corpus: Path, *more: str) -> list[str]:
    arguments = ["-m", "training.finetune", "--model", tiny, "--out", out, *FAST, *more]
    arguments += ["--data_geography", corpus, "--epochs", "6", "--check_every", "3"]
    return [sys.executable, *map(str, arguments)]


@pytest.mark.slow
def test_a_run_killed_at_any_step_and_resumed_ends_with_the_same_adapter(
    tiny: Path, corpus: Path, tmp_path: Path
) -> None:
    unbroken = tmp_path / "unbroken"
    subprocess.run(command(tiny, unbroken, corpus), cwd=PROJECT_DIR, check=True)
    out = tmp_path / "out"
    work = out / ".tiny-chat-lora-geography.training"
    kills = 0
    # Killed as soon as another checkpoint begins to appear, whatever is written at that moment.
    while not adapter(out).exists():
        known = names(work)
        child = subprocess.Popen(command(tiny, out, corpus, "--resume"), cwd=PROJECT_DIR)
        while child.poll() is None:
            if {name for name in names(work) - known if name.startswith("checkpoint")}:
                time.sleep(0.02 * kills)
                child.send_signal(signal.SIGKILL)
                child.wait()
                kills += 1
            time.sleep(0.002)
        assert kills < 30
    assert kills >= 3
    assert weights(adapter(out)) == weights(adapter(unbroken))
    for name in ("training.json", "loss.jsonl", "adapter_config.json"):
        assert (adapter(out) / name).read_text() == (adapter(unbroken) / name).read_text()
    assert names(out) == {"tiny-chat-lora-geography"}


@pytest.mark.slow
def test_a_stopped_run_says_so_and_goes_on_only_with_the_same_inputs(
    tiny: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / ".tiny-chat-lora-geography.training"
    child = subprocess.Popen(
        [*command(tiny, tmp_path, corpus), "--epochs", "500"],
        cwd=PROJECT_DIR,
        stderr=subprocess.PIPE,
        text=True,
    )
    while child.poll() is None and not list(work.glob("checkpoint-*/whole")):
        time.sleep(0.01)
    child.terminate()
    assert "with --resume continues from the last checkpoint" in child.communicate()[1]
    assert child.returncode == 130
    finetune(tiny, tmp_path, "--data_geography", corpus, status=1)
    assert "holds a run that did not finish: continue it with --resume" in capsys.readouterr().err
    finetune(tiny, tmp_path, "--data_geography", corpus, "--resume", status=1)
    assert "another base, corpus or options" in capsys.readouterr().err
    assert not adapter(tmp_path).exists()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [60, 20_000, 70_000])
def test_a_full_disk_is_an_error_and_nothing_is_half_written(
    tiny: Path, corpus: Path, tmp_path: Path, limit: int
) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = subprocess.run(
        command(tiny, tmp_path, corpus),
        cwd=PROJECT_DIR,
        preexec_fn=small_files,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert result.returncode == 1
    assert "cannot be written" in result.stderr or "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert not adapter(tmp_path).exists()
    subprocess.run(command(tiny, tmp_path, corpus, "--resume"), cwd=PROJECT_DIR, check=True)
    assert names(tmp_path) == {"corpus.jsonl", "tiny-chat-lora-geography"}


# --- from training to serving -----------------------------------------------------------

F32_ADAPTER = ["--type", "F32", "--mode", "adapter"]


def test_what_was_trained_is_served_merged_or_as_adapter_with_the_same_logits(
    tiny: Path, corpus: Path, tmp_path: Path
) -> None:
    arguments = ["--data_geography", corpus, "--epochs", "4", "--rank", "8"]
    finetune(tiny, tmp_path / "loras", *arguments)
    folder = adapter(tmp_path / "loras")
    models = tmp_path / "models"
    common = ["--base", str(tiny), "--loras", str(tmp_path / "loras"), "--output", str(models)]
    assert export([*common, "--type", "F32"]) == 0
    assert (
        export([*common, "--type", "F32", "--mode", "adapter", "--output", str(tmp_path / "b")])
        == 0
    )
    reference = transformers_model(tiny, folder)
    tokenizer = CheckpointTokenizer(tiny)
    frame = tokenized_frame(tokenizer, "geography", SUBJECTS)
    prompts = [frame.head + tokenizer.tokenize(r["question"]) + frame.tail for r in RECORDS[:4]]
    for served in (
        GgufModel(models / "tiny-chat-geography-F32.gguf"),
        GgufModel(tmp_path / "b/tiny-chat-F32.gguf", tmp_path / "b/tiny-chat-lora-geography.gguf"),
    ):
        comparison = compare(reference, served, prompts)
        served.close()
        assert comparison.largest_error < 1e-4
        assert comparison.same_top.all()

    assert export(["--base", str(tiny), "--output", str(models), "--type", "F32"]) == 0
    given = {"models_dir": models, "model_name": tiny.name, "max_input_tokens": 128}
    with loadPipeline(small_settings(**given, use_4bit=False)) as pipeline:
        asked = {"questionID": 1, "question": RECORDS[0]["question"]}
        right = [RECORDS[0]["answer"], ""]
        trained, nothing = pipeline.log_likelihoods({**asked, "subject": "geography"}, right)
        bare, _ = pipeline.log_likelihoods({**asked, "subject": "history"}, right)
    assert trained > bare * 0.7
    assert nothing == 0.0


def test_the_manifest_tells_how_an_adapter_was_trained(
    tiny: Path, corpus: Path, tmp_path: Path
) -> None:
    finetune(tiny, tmp_path / "loras", "--data_history", corpus, "--epochs", "1")
    arguments = ["--base", tiny, "--loras", tmp_path / "loras", "--output", tmp_path / "out"]
    arguments += ["--mode", "adapter", "--no-base", "--adapter-type", "F16"]
    assert export([str(a) for a in arguments]) == 0
    assert names(tmp_path / "out") == {"manifest.json", ".manifest.json.lock"} | {
        "tiny-chat-lora-history.gguf"
    }
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (entry,) = manifest["files"]
    assert entry["quantization"] == "F16"
    assert entry["training"]["data"] == "corpus.jsonl"
    assert entry["training"]["options"]["rank"] == 4


@pytest.mark.parametrize(
    ("device_map", "visible", "shown"),
    [
        ("auto", None, "0"),
        ("cuda", None, "0"),
        ("cuda:2", None, "2"),
        ("cuda:1", "3,GPU-5a", "GPU-5a"),
        ("auto", "3,GPU-5a", "3"),
    ],
)
def test_training_sees_the_one_gpu_of_device_map(
    monkeypatch: pytest.MonkeyPatch, device_map: str, visible: str | None, shown: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(Settings.load(device_map="cpu").device_map)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible
    assert not choose_device(Settings.load(device_map=device_map).device_map)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == shown


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(
        torch.cuda, "is_available", lambda: bool(os.environ["CUDA_VISIBLE_DEVICES"])
    )
    assert not choose_device("cuda:0")
    with pytest.raises(TrainingError, match="DEVICE_MAP=cuda:1: torch finds no such GPU"):
        choose_device("cuda:1")
    assert choose_device("auto")  # nothing is visible now
