"""Adapters that TRL's own trainers make and save, exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.checkpoints import (
    TOLERANCE,
    Base,
    adapter_logits,
    error,
    merged_logits,
    peft_logits,
    save_lora,
)
from tests.finetuning import RECORDS

pytest.importorskip("trl")
pytestmark = pytest.mark.slow


def options(folder: Path) -> dict[str, Any]:
    """Arguments of every trainer: two quick steps on the CPU."""
    return {
        "output_dir": str(folder),
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "save_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
    }


def same(base: Base, folder: Path) -> None:
    """Merged and as a GGUF adapter it says what peft says, which is not what the base says."""
    expected = peft_logits(base.folder, folder)
    assert error(base.logits, expected) > 100 * TOLERANCE
    assert error(merged_logits(base, folder), expected) < TOLERANCE
    assert error(adapter_logits(base, folder), expected) < TOLERANCE


def test_sft(tmp_path: Path, bases: dict[str, Base]) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    base, out = bases["qwen3"], tmp_path / "out"
    records = [
        {
            "prompt": [{"role": "user", "content": record["question"]}],
            "completion": [{"role": "assistant", "content": record["answer"]}],
        }
        for record in RECORDS
    ]
    trainer = SFTTrainer(
        model=str(base.folder),
        args=SFTConfig(**options(out)),
        train_dataset=Dataset.from_list(records),
        peft_config=LoraConfig(r=4, task_type="CAUSAL_LM", target_modules="all-linear"),
    )
    trainer.train()
    trainer.save_model(str(out))
    for folder in (out, out / "checkpoint-1"):
        same(base, folder)


def test_dpo_on_an_adapter(tmp_path: Path, bases: dict[str, Base]) -> None:
    """It adds a copy of the adapter, called ref, and saves both."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    base, out = bases["llama"], tmp_path / "out"
    save_lora(tmp_path / "first", base.folder)
    model = AutoModelForCausalLM.from_pretrained(base.folder)
    records = [
        {"prompt": record["question"], "chosen": record["answer"], "rejected": "I do not know."}
        for record in RECORDS
    ]
    trainer = DPOTrainer(
        model=PeftModel.from_pretrained(model, tmp_path / "first", is_trainable=True),
        args=DPOConfig(**options(out)),
        train_dataset=Dataset.from_list(records),
        processing_class=AutoTokenizer.from_pretrained(base.folder),
    )
    trainer.train()
    trainer.save_model(str(out))
    same(base, out)
