"""What can be known of `scripts/gpu_check.sh` without a GPU."""

from __future__ import annotations

import subprocess

import pytest

from runtime.settings import PROJECT_DIR

SCRIPT = PROJECT_DIR / "scripts" / "gpu_check.sh"


def test_without_a_stage_it_tells_what_there_is() -> None:
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    for stage in ("pack", "install", "test", "measure", "merged", "train"):
        assert f"scripts/gpu_check.sh {stage} " in done.stdout


def test_training_is_measured_on_questions_of_one_length() -> None:
    pytest.importorskip("peft")
    from lab.training_memory import lengthened
    from training.examples import Example

    example = Example([1, 2, 3], [8, 9])
    for tokens in (4, 5, 80):
        longer = lengthened(example, tokens)
        assert len(longer) == tokens
        assert longer.answer == [8, 9]
