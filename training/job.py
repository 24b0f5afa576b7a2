"""Trains one adapter; a stopped run can be resumed."""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.common.atomic import replacing, replacing_folder
from runtime.common.command import explain
from training.base import Base
from training.card import CARD, Card, versions, write_card
from training.errors import TrainingError
from training.lessons import Lesson
from training.options import Options

if TYPE_CHECKING:
    from transformers import TrainerState

log = logging.getLogger(__name__)

_WEIGHTS = "adapter_model.safetensors"
# In torch's messages about files that cannot be written.
_TORCH_WRITER = re.compile("PytorchStreamWriter|inline_container")


class Job:
    """The training of one adapter.

    Attributes:
        folder: of the adapter.
        work: of the checkpoints, a hidden folder beside it.
    """

    def __init__(self, base: Base, lesson: Lesson, out: Path) -> None:
        self.base, self.lesson = base, lesson
        self.folder = out / f"{base.name}-lora-{lesson.plan.subject}"
        self.work = out / f".{self.folder.name}.training"

    @property
    def options(self) -> Options:
        return self.lesson.plan.options

    def is_done(self) -> bool:
        """Whether the adapter exists and was made from the same inputs."""
        try:
            card = Card.model_validate_json((self.folder / CARD).read_bytes())
        except (OSError, ValueError):
            return False
        return card.inputs == self.lesson.inputs and (self.folder / _WEIGHTS).is_file()

    def begin(self, resume: bool) -> None:
        """Make the folder for checkpoints, or continue with that of a stopped run.

        Raises:
            TrainingError: there is a stopped run and `resume` is False, or it had other inputs.
        """
        begun = self.work / "inputs"
        if begun.is_file():
            if not resume:
                raise TrainingError(
                    f"{self.work} has an unfinished run: continue it with --resume, or delete it"
                )
            if begun.read_text("utf-8") != self.lesson.inputs:
                raise TrainingError(
                    f"{self.work} has a run with another base, corpus or options: use the same"
                    " ones to resume it, or delete it"
                )
            return
        self.work.mkdir(parents=True, exist_ok=True)
        with replacing(begun) as partial:
            partial.write_text(self.lesson.inputs, "utf-8")

    def train_adapter(self, use_cpu: bool) -> Card:
        """Train and write the adapter.

        Raises:
            TrainingError: the base cannot be loaded, the target modules do not exist, the GPU's
                memory or the disk is full, or the loss became NaN.
        """
        import torch
        from safetensors import SafetensorError

        try:
            state, before = self._run_training(use_cpu)
            history = [{"step": 0, "eval_loss": before}] if before is not None else []
            history += state.log_history
            card = self._card(history, state.global_step, state.best_global_step)
            best = Path(state.best_model_checkpoint or self.work / f"checkpoint-{card.steps}")
            with replacing_folder(self.folder, self.work) as folder:
                shutil.copyfile(best / _WEIGHTS, folder / _WEIGHTS)
                config = json.loads((best / "adapter_config.json").read_text("utf-8"))
                # A set, which peft writes in random order.
                config["target_modules"] = sorted(config["target_modules"])
                text = json.dumps(config, indent=2, sort_keys=True) + "\n"
                (folder / "adapter_config.json").write_text(text, "utf-8")
                write_card(folder, card, history)
        except torch.OutOfMemoryError:
            raise TrainingError(
                "the GPU's memory is full: try a smaller --batch-size with more --accumulation,"
                " --gradient-checkpointing, or --four-bit on"
            ) from None
        except (OSError, SafetensorError, RuntimeError) as error:
            said = explain(error)
            if isinstance(error, RuntimeError) and not _TORCH_WRITER.search(said):
                raise
            raise TrainingError(
                f"{self.work}: cannot be written ({said}); the last checkpoint is kept: free some"
                " space and continue with --resume"
            ) from None
        shutil.rmtree(self.work)
        return card

    def _run_training(self, use_cpu: bool) -> tuple[TrainerState, float | None]:
        """Train to the end; returns the final state, and the held-out loss before training."""
        from transformers import set_seed

        from training.trainer import AnswerTrainer, last_whole_checkpoint, stopped_state

        begun = self.work / "loss_before"
        checkpoint = last_whole_checkpoint(self.work)
        stopped = stopped_state(checkpoint) if checkpoint else None
        if stopped:  # training had finished, but the adapter was not written
            return stopped, float(begun.read_text()) if self.lesson.held_out else None
        model = self._adapted_model(use_cpu)
        self._refuse_full_disk(model)
        head = self.lesson.head
        trainer = AnswerTrainer(
            model, head, self.lesson.train, self.lesson.held_out, self.work, self.options, use_cpu
        )
        before = None
        if self.lesson.held_out:
            if not begun.is_file():
                loss = trainer.evaluate()["eval_loss"]
                with replacing(begun) as partial:
                    partial.write_text(repr(loss))
            before = float(begun.read_text())
        if checkpoint:
            log.info("continuing from step %s", checkpoint.name.rpartition("-")[2])
        set_seed(self.options.seed)  # independent of whether there was an evaluation before
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return trainer.state, before

    def _adapted_model(self, use_cpu: bool) -> Any:
        """The base with a fresh adapter."""
        from peft import LoraConfig, get_peft_model
        from transformers import set_seed

        options = self.options
        base_model = self.base.load(options, use_cpu)
        if options.gradient_checkpointing:
            base_model.enable_input_require_grads()
        set_seed(options.seed)
        modules = options.target_modules
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules="all-linear" if modules == ("all-linear",) else list(modules),
        )
        try:
            model = get_peft_model(base_model, config)
        except ValueError as error:  # such as modules that do not exist
            raise TrainingError(f"--target-modules {' '.join(modules)}: {error}") from None
        model.peft_config["default"].base_model_name_or_path = self.base.asked
        # When saving, peft looks there for a vocabulary of another size; there never is one here.
        warnings.filterwarnings("ignore", message="Could not find a config file")
        return model

    def _refuse_full_disk(self, model: Any) -> None:
        weights = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
        # Up to three checkpoints at once, each with two moments for each weight.
        needed, free = 9 * weights + 2**20, shutil.disk_usage(self.work).free
        if needed > free:
            raise TrainingError(
                f"{self.work}: training needs {needed / 2**20:.0f} MiB of disk for checkpoints, but"
                f" only {free / 2**20:.0f} MiB are free"
            )

    def _card(self, history: list[dict[str, Any]], steps: int, best_step: int | None) -> Card:
        losses = [entry["loss"] for entry in history if "loss" in entry]
        last = losses[-max(1, len(losses) // 10) :]
        loss = sum(last) / len(last)
        if not math.isfinite(loss):
            raise TrainingError("the loss became NaN or infinite: try a lower --learning-rate")
        held_out = {e["step"]: e["eval_loss"] for e in history if "eval_loss" in e}
        best = best_step or steps
        knowledge = self.lesson.plan.knowledge
        return Card(
            name=self.folder.name,
            subject=self.lesson.plan.subject,
            base=self.base.name,
            base_sha256=self.base.fingerprint,
            data=self.lesson.plan.data.name,
            data_sha256=self.lesson.data_sha256,
            knowledge_sha256=knowledge.base_sha256 if knowledge else None,
            options=self.options,
            inputs=self.lesson.inputs,
            examples=len(self.lesson.train),
            informed=self.lesson.informed,
            solved=self.lesson.solved,
            held_out=len(self.lesson.held_out),
            steps=steps,
            best_step=best,
            loss=loss,
            held_out_loss=(held_out[0], held_out[best]) if held_out else None,
            made_with=versions(),
        )


def train(job: Job, use_cpu: bool, resume: bool) -> None:
    """Train an adapter unless it is up to date, and print the result.

    Raises:
        TrainingError: see `Job`.
    """
    if job.is_done():
        print(f"{job.folder}: up to date")
        return
    job.begin(resume)
    lesson = job.lesson
    subject, n, held = lesson.plan.subject, len(lesson.train), len(lesson.held_out)
    log.info("%s: %d examples, %d held out", subject, n, held)
    if lesson.informed:
        log.info("%d of the examples have passages before the question", lesson.informed)
    if lesson.solved:
        log.info("%d of the examples have a solution before the answer", lesson.solved)
    card = job.train_adapter(use_cpu)
    held_out = "none held out"
    if card.held_out_loss:
        held_out = "held-out loss {:.3f} → {:.3f}".format(*card.held_out_loss)
    print(f"{job.folder}: {card.steps} steps, loss {card.loss:.3f}, {held_out}")
