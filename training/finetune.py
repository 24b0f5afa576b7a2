"""`python -m training.finetune`: corpora of questions and answers become LoRA adapters.

python -m training.finetune --model Qwen/Qwen3-1.7B --data_algebra data/train_algebra.json
python -m training.finetune --model demo --data_history a.jsonl --data_chinese b.jsonl --resume
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.common.atomic import replacing, replacing_folder
from runtime.common.command import explain, run
from runtime.common.errors import SetupError, UserError
from runtime.common.hashing import fingerprint, sha256
from runtime.common.offline import guard
from runtime.prompts import frame, tokenized_frame
from runtime.retrieval import Index
from runtime.retrieval.files import base_path
from runtime.settings import PROJECT_DIR, Settings, declared_subjects
from runtime.subjects import Subjects
from training.base import Base, in_four_bits
from training.card import CARD, Card, versions, write_card
from training.corpus import read_corpus, split
from training.errors import TrainingError
from training.examples import Example, make_examples
from training.informed import with_passages
from training.options import Options

if TYPE_CHECKING:
    from transformers import TrainerState

log = logging.getLogger(__name__)

# Raised when the same options come to mean something else, so that old adapters are made anew.
_FORMAT = 1
_WEIGHTS = "adapter_model.safetensors"
# How torch says that a file cannot be written.
_TORCH_WRITER = re.compile("PytorchStreamWriter|inline_container")


class Job:
    """One adapter to be trained: where it goes, of what it is made, and what is there already.

    While it runs, checkpoints lie in a hidden folder beside its place.

    Raises:
        TrainingError, SetupError: the corpus is missing or bad, or the base cannot be used.
    """

    def __init__(
        self,
        base: Base,
        subject: str,
        subjects: Subjects,
        data: Path,
        out: Path,
        options: Options,
        skip_bad: bool,
        knowledge: Index | None = None,
        top_k: int = 3,
    ) -> None:
        self.base, self.subject, self.data, self.options = base, subject, data, options
        self.folder = out / f"{base.name}-lora-{subject}"
        self.work = out / f".{self.folder.name}.training"
        pairs = read_corpus(data, skip_bad)
        train, held_out = split(pairs, options.holdout, options.seed)
        if knowledge:
            train = with_passages(train, knowledge, top_k)
            held_out = with_passages(held_out, knowledge, top_k)
        self.informed = sum(bool(pair.passages) for pair in train)
        self.knowledge_sha256 = knowledge.base_sha256 if knowledge else None
        with base.tokenizer() as tokenizer:
            self.frame = tokenized_frame(tokenizer, subject, subjects)
            limit = options.max_tokens
            self.train: list[Example] = make_examples(train, tokenizer, self.frame, limit)
            self.held_out: list[Example] = make_examples(held_out, tokenizer, self.frame, limit)
            template = frame(tokenizer.chat_template, subjects[subject].instruction)
        if not self.train:
            raise TrainingError(f"{data}: every answer is longer than --max_tokens allows")
        self.data_sha256, self.base_sha256 = sha256(data), base.fingerprint
        parts = [_FORMAT, self.base_sha256, self.data_sha256, skip_bad, options.model_dump()]
        parts += [subject, template.head, template.tail, template.end]
        parts += [self.knowledge_sha256, top_k] if knowledge else []
        self.inputs = fingerprint(parts)

    def is_done(self) -> bool:
        """Whether the adapter is there and made of the same things."""
        try:
            card = Card.model_validate_json((self.folder / CARD).read_bytes())
        except (OSError, ValueError):
            return False
        return card.inputs == self.inputs and (self.folder / _WEIGHTS).is_file()

    def begin(self, resume: bool) -> None:
        """Make the folder for checkpoints, or take over a stopped run's.

        Raises:
            TrainingError: a stopped run is there and `resume` was not asked for, or it had
                other inputs.
        """
        begun = self.work / "inputs"
        if begun.is_file():
            if not resume:
                raise TrainingError(
                    f"{self.work} holds a run that did not finish: go on from there with"
                    " --resume, or delete it"
                )
            if begun.read_text("utf-8") != self.inputs:
                raise TrainingError(
                    f"{self.work} holds a run with another base, corpus or options, which cannot"
                    " be gone on with: give those again, or delete it"
                )
            return
        self.work.mkdir(parents=True, exist_ok=True)
        with replacing(begun) as partial:
            partial.write_text(self.inputs, "utf-8")

    def train_adapter(self, use_cpu: bool) -> Card:
        """Train, and put the adapter into its place.

        Raises:
            TrainingError: the base cannot be loaded, there are no such modules, the GPU's memory
                or the disk is full, or the loss ran away.
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
                # A set, which peft writes in an order of chance.
                config["target_modules"] = sorted(config["target_modules"])
                text = json.dumps(config, indent=2, sort_keys=True) + "\n"
                (folder / "adapter_config.json").write_text(text, "utf-8")
                write_card(folder, card, history)
        except torch.OutOfMemoryError:
            raise TrainingError(
                "the GPU's memory is full: try a smaller --batch_size with more --accumulation,"
                " --gradient_checkpointing, or --four_bit on"
            ) from None
        except (OSError, SafetensorError, RuntimeError) as error:
            said = explain(error)
            if isinstance(error, RuntimeError) and not _TORCH_WRITER.search(said):
                raise
            raise TrainingError(
                f"{self.work}: cannot be written ({said}); what was learned up to the last whole"
                " checkpoint is kept: make room and go on with --resume"
            ) from None
        shutil.rmtree(self.work)
        return card

    def _run_training(self, use_cpu: bool) -> tuple[TrainerState, float | None]:
        """Train to the end; the state there, and the held-out loss before."""
        from transformers import set_seed

        from training.trainer import AnswerTrainer, last_whole_checkpoint, stopped_state

        begun = self.work / "loss_before"
        checkpoint = last_whole_checkpoint(self.work)
        stopped = stopped_state(checkpoint) if checkpoint else None
        if stopped:  # and killed before the adapter was in its place
            return stopped, float(begun.read_text()) if self.held_out else None
        model = self._adapted_model(use_cpu)
        self._refuse_full_disk(model)
        head = self.frame.head
        trainer = AnswerTrainer(
            model, head, self.train, self.held_out, self.work, self.options, use_cpu
        )
        before = None
        if self.held_out:
            if not begun.is_file():
                loss = trainer.evaluate()["eval_loss"]
                with replacing(begun) as partial:
                    partial.write_text(repr(loss))
            before = float(begun.read_text())
        if checkpoint:
            log.info("going on from step %s", checkpoint.name.rpartition("-")[2])
        set_seed(self.options.seed)  # whether there was an evaluation just now or not
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
        except ValueError as error:  # no such modules, say
            raise TrainingError(f"--target_modules {' '.join(modules)}: {error}") from None
        model.peft_config["default"].base_model_name_or_path = self.base.asked
        # peft looks there, on saving, for a vocabulary of another size, which nobody makes here.
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
            raise TrainingError("the loss is no number any more: try a lower --learning_rate")
        held_out = {e["step"]: e["eval_loss"] for e in history if "eval_loss" in e}
        best = best_step or steps
        return Card(
            name=self.folder.name,
            subject=self.subject,
            base=self.base.name,
            base_sha256=self.base_sha256,
            data=self.data.name,
            data_sha256=self.data_sha256,
            knowledge_sha256=self.knowledge_sha256,
            options=self.options,
            inputs=self.inputs,
            examples=len(self.train),
            informed=self.informed,
            held_out=len(self.held_out),
            steps=steps,
            best_step=best,
            loss=loss,
            held_out_loss=(held_out[0], held_out[best]) if held_out else None,
            made_with=versions(),
        )


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        parser = _parser(declared_subjects())
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stopped = "stopped; --resume goes on from the last checkpoint"
    return run(_finetune, parser.parse_args(argv), stopped)


def _parser(subjects: Subjects) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.finetune", description=__doc__.partition(": ")[2].split("\n")[0]
    )
    parser.add_argument(
        "--model",
        required=True,
        help="a checkpoint's folder, a hub id on disk, a GGUF file or demo",
    )
    for subject in subjects:
        parser.add_argument(
            f"--data_{subject}", type=Path, metavar="FILE", help=f"corpus for {subject}"
        )
    parser.add_argument(
        "--out", type=Path, default=PROJECT_DIR / "loras", help="folder (default: loras)"
    )
    parser.add_argument(
        "--bad_records",
        choices=["skip", "refuse"],
        default="skip",
        help="leave bad records out, named and counted, or stop (default: skip)",
    )
    parser.add_argument(
        "--knowledge",
        type=Path,
        metavar="FOLDER",
        help="knowledge bases: questions are learned once more behind what is found for them",
    )
    parser.add_argument("--resume", action="store_true", help="go on with runs that were stopped")
    Options.add_to(parser)
    return parser


def _finetune(arguments: argparse.Namespace) -> int:
    settings = Settings.load()
    subjects = settings.subjects
    corpora = {s: data for s in subjects if (data := getattr(arguments, f"data_{s}"))}
    if not corpora:
        names = ", ".join(f"--data_{subject}" for subject in subjects)
        raise TrainingError(f"no corpus was given; give one or more of {names}")
    folder: Path | None = arguments.knowledge
    known = [s for s in corpora if folder and base_path(folder, s).exists()]
    if folder and not known:
        raise TrainingError(
            f"--knowledge {folder}: no base for {' or '.join(corpora)} in it; python -m"
            " kb.preprocess makes one"
        )
    options = Options.parse({name: getattr(arguments, name) for name in Options.model_fields})
    failed = 0
    with guard(settings.offline_guard):
        base = Base.find(arguments.model, settings)
        use_cpu = _choose_device(settings.device_map)
        in_four_bits(options, use_cpu, base.path.is_file())  # refuses what cannot be
        for subject, data in corpora.items():
            # One corpus that cannot be learned costs the others nothing.
            try:
                skip_bad = arguments.bad_records == "skip"
                knowledge = Index.load(folder, subject) if folder and subject in known else None
                top_k = settings.rag_top_k
                out = arguments.out
                job = Job(base, subject, subjects, data, out, options, skip_bad, knowledge, top_k)
                _train(job, use_cpu, arguments.resume)
            except (UserError, OSError) as error:
                print(f"error: {subject}: {explain(error)}", file=sys.stderr)
                failed += 1
    return 1 if failed else 0


def _train(job: Job, use_cpu: bool, resume: bool) -> None:
    if job.is_done():
        print(f"{job.folder}: up to date")
        return
    job.begin(resume)
    log.info("%s: %d examples, %d held out", job.subject, len(job.train), len(job.held_out))
    if job.informed:
        log.info("%d of the examples stand behind passages", job.informed)
    card = job.train_adapter(use_cpu)
    held_out = "none held out"
    if card.held_out_loss:
        held_out = "held-out loss {:.3f} → {:.3f}".format(*card.held_out_loss)
    print(f"{job.folder}: {card.steps} steps, loss {card.loss:.3f}, {held_out}")


def _choose_device(device_map: str) -> bool:
    """Whether training is on the CPU; else it is on one GPU, that of DEVICE_MAP or the first.

    The Trainer takes every GPU that it sees, so it is shown one.

    Raises:
        TrainingError: DEVICE_MAP names a GPU that is not there.
    """
    import torch

    if device_map == "cpu":
        return True
    number = int(device_map.partition(":")[2] or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    shown = visible.split(",") if visible is not None else [str(n) for n in range(number + 1)]
    # Before torch asks the driver, which reads it once.
    os.environ["CUDA_VISIBLE_DEVICES"] = shown[number].strip() if number < len(shown) else ""
    if torch.cuda.is_available():
        return False
    if device_map == "auto":
        return True
    raise TrainingError(
        f"DEVICE_MAP={device_map}: torch finds no such GPU (nvidia-smi -L lists what there is;"
        " CUDA_VISIBLE_DEVICES may hide some); DEVICE_MAP=cpu or auto trains on the CPU"
    )


if __name__ == "__main__":
    sys.exit(main())
