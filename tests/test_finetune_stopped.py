"""Runs of `training.finetune` that are killed, stopped or meet a full disk."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from runtime.settings import PROJECT_DIR
from tests.finetuning import adapter, command, finetune, names, weights

pytest_plugins = ["tests.finetuning"]


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
    assert "has an unfinished run: continue it with --resume" in capsys.readouterr().err
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
