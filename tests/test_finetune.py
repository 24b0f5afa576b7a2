"""`python -m training.finetune`: from a corpus to an adapter that is served."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from convert.comparison import GgufModel, compare, transformers_model
from convert.export_gguf import main as export
from convert.sources import open_source
from convert.writing import write_model
from runtime import loadPipeline
from runtime.prompts import tokenized_frame
from tests.checkpoints import (
    save_checkpoint,
    tiny_tokenizer,
)
from tests.conftest import small_settings
from tests.finetuning import (
    RECORDS,
    SUBJECTS,
    adapter,
    finetune,
    names,
    weights,
    write,
)
from training.card import Card
from training.tokenizer import CheckpointTokenizer

pytest_plugins = ["tests.finetuning"]


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


def test_a_broken_base_is_an_error(
    tiny: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base").mkdir()
    for path in tiny.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / "base" / path.name).write_bytes(path.read_bytes())
    finetune(tmp_path / "base", tmp_path / "out", "--data_history", corpus, status=1)
    assert "transformers cannot load it" in capsys.readouterr().err


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
