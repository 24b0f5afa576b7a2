"""The options of `training.finetune`: what is wrong is named, and which device they choose."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.settings import Settings
from tests.finetuning import adapter, finetune
from training.base import choose_device, in_four_bits
from training.card import Card
from training.errors import TrainingError
from training.finetune import main
from training.options import Options

pytest_plugins = ["tests.finetuning"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--rank", "0"], "--rank 0: must be at least 1"),
        (["--epochs", "many"], "--epochs many: must be a number"),
        (["--schedule", "steep"], "--schedule steep: must be one of cosine, linear, constant"),
        (["--target_modules", "no_such"], "--target-modules no_such: "),
        (["--four_bit", "on"], "--four-bit on needs a CUDA GPU"),
        (["--learning_rate", "1e30"], "the loss became NaN or infinite"),
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
    assert "--data-astrology: no such subject; choose from --data-" in capsys.readouterr().err
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
