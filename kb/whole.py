"""Makes everything for a subject: base, adapter, gate, and a report of what they gain."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.questions import read
from evaluation.records import Item
from kb import report
from kb.asking import answering
from kb.calibration import FEWEST
from kb.comparing import Part, answered, retrievals, ways
from kb.reading import files_of
from kb.steps import Steps
from runtime import Settings, loadPipeline
from runtime.common.atomic import replacing
from runtime.common.errors import UserError
from runtime.common.hashing import fingerprint, sha256
from runtime.common.journal import to_json
from runtime.files.bases import DEMO, find_base
from runtime.files.quantize import TYPES
from runtime.retrieval import Gate
from runtime.retrieval.files import FORMAT, base_path, gate_path, index_path
from runtime.retrieval.tokens import fold


class Whole:
    """The run of a command line of `python -m kb`, whose help describes the options.

    Raises:
        UserError: an option is wrong.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        if not 0 < given.gate_share < 1:
            raise UserError(f"--gate-share {given.gate_share}: must be between 0 and 1")
        if given.type not in TYPES:
            raise UserError(f"--type {given.type}: no such type; choose from {', '.join(TYPES)}")
        self.subject: str = given.subject
        self.raw: Sequence[Path] = files_of(given.raw)
        self.train: Sequence[Path] = given.train
        self.dev: Sequence[Path] = given.dev
        self.base: str = given.base
        self.out: Path = given.out
        self.gate_share: float = given.gate_share
        self.type_name: str = given.type
        self.adapter: bool = not given.no_adapter
        self.options: Sequence[str] = given.options

    def go(self) -> Path:
        """Do the steps that are not yet done; returns the path of the report.

        Raises:
            UserError: a step failed, or the folder was started with other files or options.
            OSError: a file cannot be read or written.
        """
        settings = self._settings()
        settings.subjects.check(self.subject, "--subject")
        base, name = find_base(self.base, settings)
        dev, learned, kept = self._questions()
        with Steps(self.out, self._given(settings)) as steps:
            kb = self.out / "kb"
            _write_questions(self._data("train"), learned, for_judging=False)
            _write_questions(self._data("gate"), kept, for_judging=True)
            subject = ["--subject", self.subject]
            steps.run("base", "kb.preprocess", subject, ["--out", kb, "--input", *self.raw])
            model = self._export_base(steps, base, name)
            if self.adapter:
                self._make_adapter(steps, name)
            served = {"MODEL_NAME": model, "MIN_NEW_TOKENS": str(settings.min_new_tokens)}
            served |= {"ADAPTERS_BASE_DIR": str(self.out / "adapters")} if self.adapter else {}
            others = {s.setting: "" for s in settings.subjects.values()} | {"PEFT_ADAPTER_PATH": ""}
            steps.run(
                "gate",
                "kb.calibrate",
                [*subject, "--kb", kb, "--questions", self._data("gate")],
                ["--journal", self.out / "calibration.jsonl"],
                settings={**{n: "" for n in others if os.environ.get(n)}, **served},
            )
            found, shown = self._answers(steps, dev, model)
            return report.write(
                self.out / "report.md",
                report.Findings(
                    subject=self.subject,
                    model=model,
                    items=dev,
                    ways=found,
                    shown=shown,
                    gate=self._gate(),
                    questions=(len(learned), len(kept)),
                    seconds=steps.seconds,
                    files=self._files(name),
                    served={
                        **served,
                        "RAG_KNOWLEDGE_BASE_DIR": str(kb),
                        "RAG_ENABLED_SUBJECTS": json.dumps({self.subject: True}),
                    },
                ),
            )

    def _settings(self, **overrides: Any) -> Settings:
        """The environment's settings, greedy, without adapters and knowledge."""
        settings = Settings.load(temperature=0.0, rag_enabled_subjects={}, **overrides)
        kept = {"adapters_base_dir": overrides.get("adapters_base_dir")}
        return settings.model_copy(update={"peft_adapter_path": None, "peft_adapters": {}, **kept})

    def _given(self, settings: Settings) -> dict[str, Any]:
        def contents(files: Sequence[Path]) -> str:
            return fingerprint([[file.name, sha256(file)] for file in files])

        return {
            "--subject": self.subject,
            "--raw": contents(self.raw),
            "--train": contents(self.train),
            "--dev": contents(self.dev),
            "--base": self.base,
            "--gate-share": self.gate_share,
            "--type": self.type_name,
            "--no-adapter": not self.adapter,
            "options of training.finetune": list(self.options),
            "version of the base": FORMAT,
            "RAG_TOP_K": settings.rag_top_k,
            **answering(settings, self.subject),
        }

    def _questions(self) -> tuple[list[Item], list[Item], list[Item]]:
        """The questions for development, for training, and for the gate.

        They do not overlap, whatever the spelling: a question's text decides where it belongs.
        """

        def of(files: Sequence[Path]) -> list[Item]:
            found = [i for i in read(*files).items if i is not None and i.subject == self.subject]
            if not found:
                names = ", ".join(map(str, files))
                raise UserError(f"{names}: no question of {self.subject} in it")
            return found

        dev, found = of(self.dev), of(self.train)
        asked = {fold(item.question) for item in dev}
        train = [item for item in found if fold(item.question) not in asked]
        share = self.gate_share if self.adapter else 1.0
        kept = [item for item in train if _place(item) < share]
        learned = [item for item in train if _place(item) >= share]
        if len(kept) < FEWEST or (self.adapter and len(learned) < 2):
            raise UserError(
                f"--train: of {len(found)} questions of {self.subject}, {len(found) - len(train)}"
                f" are also in --dev; the others give {len(learned)} to train on and {len(kept)}"
                f" for the gate, which needs {FEWEST}, and some hundreds to be proved"
            )
        return dev, learned, kept

    def _data(self, part: str) -> Path:
        return self.out / f"{part}.jsonl"

    def _export_base(self, steps: Steps, base: Path, name: str) -> str:
        """MODEL_NAME for serving: a GGUF file unchanged, a checkpoint exported."""
        if self.base == DEMO:
            return DEMO
        if base.is_file():
            return str(base)
        folder = self.out / "models"
        given = ["--base", self.base, "--type", self.type_name]
        steps.run("model", "convert.export_gguf", given, ["--output", folder])
        return str(folder / f"{name}-{self.type_name}.gguf")

    def _make_adapter(self, steps: Steps, name: str) -> None:
        loras = self.out / "loras"
        steps.run(
            "adapter",
            "training.finetune",
            ["--model", self.base, "--out", loras, "--resume", "--knowledge", self.out / "kb"],
            [f"--data-{self.subject}", self._data("train")],
            self.options,
        )
        steps.run(
            "adapter's file",
            "convert.export_gguf",
            ["--base", self.base, "--mode", "adapter", "--no-base"],
            ["--lora", loras / f"{name}-lora-{self.subject}", "--subject", self.subject],
            ["--output", self.out / "adapters"],
        )

    def _answers(
        self, steps: Steps, dev: Sequence[Item], model: str
    ) -> tuple[dict[str, Part], dict[str, int]]:
        """The development questions answered in each way, and how many were shown passages."""

        def keep(name: str, work: Any) -> Part:
            return Part.of(steps.do(f"answers: {name}", lambda: work().record()))

        found, shown = {}, {}
        if self.adapter:

            def bare() -> Part:
                with loadPipeline(self._settings(model_name=model)) as pipeline:
                    return answered(pipeline, dev, range(len(dev)))

            found[report.BARE] = keep("the model as it is", bare)
            shown[report.BARE] = 0
        settings = self._settings(
            model_name=model, adapters_base_dir=self.out / "adapters" if self.adapter else None
        )
        always, gated = retrievals(self.out / "kb", self.subject, settings.rag_top_k)

        def informed() -> dict[str, Any]:
            with loadPipeline(settings) as pipeline:
                parts, through = ways(pipeline, self.subject, dev, always, gated, keep)
            return {"through": through, **{way: part.record() for way, part in parts.items()}}

        record = steps.do("answers", informed)
        names = report.WITH_ADAPTER if self.adapter else report.WITHOUT_ADAPTER
        for way, name in names.items():
            found[name] = Part.of(record[way])
            shown[name] = {"off": 0, "always": len(dev), "gated": record["through"]}[way]
        return found, shown

    def _gate(self) -> Gate:
        return Gate.model_validate_json(gate_path(self.out / "kb", self.subject).read_bytes())

    def _files(self, name: str) -> dict[str, Path]:
        kb = self.out / "kb"
        files = {"base": base_path(kb, self.subject), "index": index_path(kb, self.subject)}
        if self.adapter:
            files["adapter"] = self.out / "adapters" / f"{name}-lora-{self.subject}.gguf"
        return files


def _place(item: Item) -> float:
    """A number from 0 to 1 that depends on a question's text alone."""
    digest = hashlib.blake2b(fold(item.question).encode(), digest_size=8, person=b"kb").digest()
    return int.from_bytes(digest, "big") / 2**64


def _write_questions(path: Path, items: Sequence[Item], for_judging: bool) -> None:
    """Write a file of questions, with all right answers for judging, or one for training."""
    lines = []
    for item in items:
        record: dict[str, Any] = {"questionID": item.id, "subject": item.subject}
        record["question"] = item.question
        if for_judging:
            record["answers"] = item.references
            if item.choices:
                record["choices"] = item.choices
        else:
            record["answer"] = item.references[0]
            if item.solution:
                record["solution"] = item.solution
        lines.append(to_json(record) + "\n")
    with replacing(path) as partial:
        partial.write_text("".join(lines), "utf-8", newline="\n")
