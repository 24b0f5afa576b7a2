"""Runs of `training.finetune` that are killed, stopped or meet a full disk."""

from __future__ import annotations

import resource
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from runtime.settings import PROJECT_DIR
from tests.finetuning import adapter, command, finetune, names, weights
from tests.forking import Forked

pytest_plugins = ["tests.finetuning"]


@pytest.mark.slow
def test_a_run_killed_at_any_step_and_resumed_ends_with_the_same_adapter(
    tiny: Path, corpus: Path, tmp_path: Path
) -> None:
    unbroken, out = tmp_path / "unbroken", tmp_path / "out"
    status, said = Forked(command(tiny, unbroken, corpus), PROJECT_DIR).end()
    assert status == 0, said
    work = out / ".tiny-chat-lora-geography.training"
    kills = 0
    # Killed as soon as another checkpoint begins to appear, whatever is written at that moment.
    while not adapter(out).exists():
        known = names(work)
        child = Forked(command(tiny, out, corpus, "--resume"), PROJECT_DIR)
        while child.process.is_alive():
            if {name for name in names(work) - known if name.startswith("checkpoint")}:
                time.sleep(0.02 * kills)
                child.process.kill()
                child.end()
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
    child = Forked([*command(tiny, tmp_path, corpus), "--epochs", "500"], PROJECT_DIR)
    while child.process.is_alive() and not list(work.glob("checkpoint-*/whole")):
        time.sleep(0.01)
    child.process.terminate()
    status, said = child.end()
    assert "with --resume continues from the last checkpoint" in said
    assert status == 130
    finetune(tiny, tmp_path, "--data_geography", corpus, status=1)
    assert "has an unfinished run: continue it with --resume" in capsys.readouterr().err
    finetune(tiny, tmp_path, "--data_geography", corpus, "--resume", status=1)
    assert "another base, corpus or options" in capsys.readouterr().err
    assert not adapter(tmp_path).exists()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [60, 20_000, 70_000])
def test_a_full_disk_is_an_error_and_nothing_is_half_written(
    tiny: Path, corpus: Path, tmp_path: Path, limit: int
) -> None:
    arguments = command(tiny, tmp_path, corpus)
    status, said = Forked(arguments, PROJECT_DIR, partial(small_files, limit)).end()
    assert status == 1
    assert "cannot be written" in said or "File too large" in said
    assert "Traceback" not in said
    assert not adapter(tmp_path).exists()
    status, said = Forked([*arguments, "--resume"], PROJECT_DIR).end()
    assert status == 0, said
    assert names(tmp_path) == {"corpus.jsonl", "tiny-chat-lora-geography"}


def small_files(limit: int) -> None:
    """No file of this process can be larger, in bytes."""
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
