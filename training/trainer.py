"""transformers' Trainer with a loss on the answers only, and checkpoints that survive a kill.

Two things make it fast. The head of the prompt, which all examples of a subject share, is computed
once per batch, with gradients, and its keys and values are expanded over the examples. And the
output head is computed for the answers only, which end at the right edge of a batch.
"""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import Sampler
from tqdm import tqdm
from transformers import (
    DynamicCache,
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_pt_utils import get_length_grouped_indices

from training.base import compute_dtype
from training.examples import IGNORED, Example, collate
from training.options import Options

# Name of the file that marks a complete checkpoint.
_WHOLE = "whole"
# Most tokens that are computed together, with padding. Each takes 3 MB of activations on the demo
# model, and questions with passages are long: a batch of 8 took 9 GB.
MOST_TOKENS = 1024


class AnswerTrainer(Trainer):  # type: ignore[misc]
    """Trains an adapter on examples that share a head.

    Args:
        model: a PEFT model.
        head: token ids at the beginning of every prompt.
        train, held_out: examples; without held-out examples there is no evaluation.
        folder: for checkpoints; the caller deletes it.
        options: how to train.
        use_cpu: train on the CPU even if there is a GPU.
    """

    def __init__(
        self,
        model: Any,
        head: Sequence[int],
        train: list[Example],
        held_out: list[Example],
        folder: Path,
        options: Options,
        use_cpu: bool,
    ) -> None:
        # The output head gets the hidden states of the answers only: a slice with gaps, for which
        # torch would copy the weights of the head once for each example.
        model.get_output_embeddings().register_forward_pre_hook(_without_gaps)
        self._head = torch.tensor([list(head)])
        self._checkpointing = options.gradient_checkpointing
        self._order = ByLength(train, options.batch_size * options.accumulation, options.seed)
        callbacks: list[TrainerCallback] = [KeepWhole(), ProgressBar()]
        if held_out and options.patience:
            callbacks.append(EarlyStoppingCallback(options.patience))
        super().__init__(
            model=model,
            args=_arguments(folder, options, use_cpu, len(train), bool(held_out)),
            data_collator=collate,
            train_dataset=train,
            eval_dataset=sorted(held_out, key=len) or None,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        # `compute_loss` divides by the number of tokens in all batches of a step.
        self.model_accepts_loss_kwargs = True

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
        return self._order

    def training_step(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """A batch's loss, with gradients; in parts if it has more than `MOST_TOKENS` tokens."""
        count, longest = inputs["input_ids"].shape
        if num_items_in_batch is None:
            num_items_in_batch = (inputs["labels"] != IGNORED).sum()
        rows = max(1, MOST_TOKENS // longest)
        rows = -(-count // -(-count // rows))  # parts of like size
        losses = []
        for at in range(0, count, rows):
            part = {name: values[at : at + rows] for name, values in inputs.items()}
            losses.append(super().training_step(model, part, num_items_in_batch))
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Mean cross entropy of the answers' tokens."""
        ids, mask, labels = inputs["input_ids"], inputs["attention_mask"], inputs["labels"]
        # One more than the tokens of the longest answer, at the right edge.
        n_logits = int((labels != IGNORED).sum(dim=1).max()) + 1
        n, n_head = len(ids), self._head.shape[1]
        head = self._head.to(ids.device)
        mask = torch.cat([mask.new_ones(n, n_head), mask], dim=1)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        keywords: dict[str, Any] = {"logits_to_keep": n_logits, "attention_mask": mask}
        if n_head and not self._checkpointing:  # which cannot use a cache
            cache = DynamicCache(config=model.config)
            # Without the output head: these logits are not needed.
            decoder = model.get_base_model().base_model
            name = _name_of_cache(decoder)
            decoder(input_ids=head, use_cache=True, **{name: cache})
            cache.batch_repeat_interleave(n)
            keywords |= {name: cache, "use_cache": True}
            positions = positions[:, n_head:]
        else:
            ids = torch.cat([head.expand(n, -1), ids], dim=1)
            keywords["use_cache"] = False
        outputs = model(input_ids=ids, position_ids=positions, **keywords)
        targets = labels[:, labels.shape[1] - n_logits + 1 :]
        logits = outputs.logits[:, :-1].float()
        total = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        loss = total / (
            (targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        )
        return (loss, outputs) if return_outputs else loss


def _name_of_cache(decoder: torch.nn.Module) -> str:
    """What this version of transformers calls the argument."""
    has_new_name = "cache" in inspect.signature(decoder.forward).parameters
    return "cache" if has_new_name else "past_key_values"


def _without_gaps(head: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].contiguous(),)


class ByLength(Sampler[int]):  # type: ignore[misc]
    """A random order in which examples of similar length are in the same batch.

    It depends only on the seed and the epoch, so that a resumed run has the same order.
    """

    def __init__(self, examples: Sequence[Example], batch_size: int, seed: int) -> None:
        self._lengths = [len(example) for example in examples]
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1000 + self._epoch)
        return iter(
            get_length_grouped_indices(self._lengths, self._batch_size, generator=generator)
        )

    def __len__(self) -> int:
        return len(self._lengths)


class KeepWhole(TrainerCallback):  # type: ignore[misc]
    """Marks complete checkpoints and deletes those that are no longer needed."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True  # the last weights may be the best

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        newest = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (newest / _WHOLE).touch()
        kept = {str(newest), state.best_model_checkpoint}
        for path in Path(args.output_dir).glob("checkpoint-*"):
            if str(path) not in kept:
                (path / _WHOLE).unlink(missing_ok=True)  # first, in case of a kill
                shutil.rmtree(path)


class ProgressBar(TrainerCallback):  # type: ignore[misc]
    """A progress bar with the losses, if stderr is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._losses: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            unit="step",
            disable=None,
            file=sys.stderr,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        self._losses |= {k: f"{v:.3f}" for k, v in logs.items() if k in ("loss", "eval_loss")}
        if self._bar:  # None in the evaluation before training
            self._bar.set_postfix(self._losses, refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None; incomplete ones are deleted."""
    whole: dict[int, Path] = {}
    for path in folder.glob("checkpoint-*"):
        if (path / _WHOLE).exists():
            whole[int(path.name.rpartition("-")[2])] = path
        else:
            shutil.rmtree(path)
    return whole[max(whole)] if whole else None


def stopped_state(checkpoint: Path) -> TrainerState | None:
    """The state of a training that ended with this checkpoint; None if it did not end."""
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    control = state.stateful_callbacks["TrainerControl"]
    return state if control["args"]["should_training_stop"] else None


def _arguments(
    folder: Path, options: Options, use_cpu: bool, n_train: int, evaluate: bool
) -> TrainingArguments:
    batches = -(-n_train // options.batch_size)
    half_epoch = max(1, -(-batches // options.accumulation) // 2)
    every = options.check_every or half_epoch
    checkpointing = {"use_reentrant": False} if options.gradient_checkpointing else None
    has_new_name = hasattr(TrainingArguments, "activation_checkpointing")
    name = f"{'activation' if has_new_name else 'gradient'}_checkpointing"
    return TrainingArguments(
        output_dir=str(folder),
        use_cpu=use_cpu,
        bf16=compute_dtype(options, use_cpu) == torch.bfloat16,
        seed=options.seed,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulation,
        **{name: options.gradient_checkpointing, f"{name}_kwargs": checkpointing},
        learning_rate=options.learning_rate,
        lr_scheduler_type=_SCHEDULES[options.schedule],
        warmup_steps=options.warmup,
        weight_decay=options.weight_decay,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=every if evaluate else None,
        save_strategy="steps",
        save_steps=every,
        load_best_model_at_end=evaluate,
        metric_for_best_model="loss" if evaluate else None,
        restore_callback_states_from_checkpoint=True,
        logging_steps=1,
        logging_nan_inf_filter=False,
        label_names=["labels"],
        prediction_loss_only=True,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
    )


_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
