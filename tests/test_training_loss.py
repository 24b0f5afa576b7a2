"""The loss of a batch, and which examples share one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.checkpoints import (
    save_lora,
)
from training.examples import IGNORED, Example, collate
from training.options import Options
from training.trainer import AnswerTrainer, ByLength

pytest_plugins = ["tests.finetuning"]
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


def test_a_long_batch_is_computed_in_parts_with_the_same_loss_and_gradients(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _trainer(tiny, tmp_path, [5, 6])
    trainable = [p for p in trainer.model.parameters() if p.requires_grad]
    examples = [Example([9] * 20, [7] * n) for n in (1, 2, 3, 4, 5)]
    shapes: list[torch.Size] = []
    compute = trainer.compute_loss

    def noted(model: Any, inputs: dict[str, torch.Tensor], **more: Any) -> Any:
        shapes.append(inputs["input_ids"].shape)
        return compute(model, inputs, **more)

    monkeypatch.setattr(trainer, "compute_loss", noted)
    found = []
    for most, expected in ((1024, [5]), (110, [3, 2]), (60, [2, 2, 1]), (10, [1] * 5)):
        monkeypatch.setattr("training.trainer.MOST_TOKENS", most)
        shapes.clear()
        trainer.model.zero_grad()
        loss = trainer.training_step(trainer.model, collate(examples), torch.tensor(15))
        assert [rows for rows, _ in shapes] == expected
        found.append([loss, *(p.grad.clone() for p in trainable)])
    for whole, *parts in zip(*found, strict=True):
        for part in parts:
            torch.testing.assert_close(part, whole, rtol=1e-3, atol=1e-6)


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
