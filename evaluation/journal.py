"""A run on its way to its report: what a killed evaluation leaves, and resuming reads.

`run.json` holds the answers and the timing of the call from when it ended, and
`results.jsonl.partial` the verdicts as they come. Both go when the report is there. A call
that was interrupted leaves nothing: latency is that of a whole call, so it is made again.

A pipeline is known by its name alone: after a change to its code or its settings, `run.json` is
to be deleted, not resumed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Self, TextIO

from pydantic import BaseModel, ValidationError

from evaluation.errors import EvaluationError
from evaluation.records import Item, Run, Verdict
from runtime.common.atomic import replacing


class Call(BaseModel):
    """A call that was made: of which pipeline, with which questions, where, and when."""

    pipeline: str
    questions_sha256: str
    machine: str
    created: str
    run: Run


class Journal:
    """The files of an unfinished run in its folder.

    Attributes:
        call: the call of an evaluation that was stopped, or None.

    Raises:
        EvaluationError: there is such a call and `resume` was not asked for, or it is one
            of another pipeline or of other questions.
    """

    def __init__(
        self, folder: Path, pipeline: str, questions_sha256: str, judge: str, resume: bool
    ) -> None:
        self.call: Call | None = None
        self._call_path = folder / "run.json"
        self._path = folder / "results.jsonl.partial"
        self._judge = judge
        self._kept: dict[str, Verdict] = {}
        if self._call_path.exists():
            if not resume:
                raise EvaluationError(
                    f"{self._call_path} holds the answers of an evaluation that did not finish:"
                    " go on from there with --resume, or delete it"
                )
            self.call = self._read_call(pipeline, questions_sha256)
            self._read_verdicts()
        else:  # verdicts without the answers they are about
            self._path.unlink(missing_ok=True)
        self._file: TextIO = self._path.open("a", encoding="utf-8")
        self._file.write("\n")  # after a line that a kill cut short

    def write_call(self, call: Call) -> None:
        """Keep a call; it survives a kill from here on."""
        self.call = call
        with replacing(self._call_path) as partial:
            partial.write_text(call.model_dump_json(), encoding="utf-8")

    def kept(self, item: Item, answer: str) -> Verdict | None:
        """The verdict on this answer that an evaluation before this one left."""
        return self._kept.get(self._fingerprint(item, answer))

    def write_verdict(self, item: Item, answer: str, verdict: Verdict) -> None:
        """Keep a verdict; it survives a kill from here on."""
        line = {"fingerprint": self._fingerprint(item, answer), **asdict(verdict)}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()

    def finish(self) -> None:
        """Drop both files: the report is there."""
        self._file.close()
        self._path.unlink()
        self._call_path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self._call_path.exists():
            self._path.unlink(missing_ok=True)

    def _read_call(self, pipeline: str, questions_sha256: str) -> Call:
        try:
            call = Call.model_validate_json(self._call_path.read_bytes())
        except ValidationError:
            raise EvaluationError(f"{self._call_path} is damaged: delete it") from None
        if (call.pipeline, call.questions_sha256) != (pipeline, questions_sha256):
            raise EvaluationError(
                f"{self._call_path} holds answers of another pipeline ({call.pipeline}) or to"
                " other questions: delete it, or choose another --name"
            )
        return call

    def _read_verdicts(self) -> None:
        if not self._path.exists():
            return
        for line in self._path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                entry = json.loads(line)
                fingerprint = entry.pop("fingerprint")
                self._kept[fingerprint] = Verdict(**entry)
            except (ValueError, KeyError, AttributeError, TypeError):
                continue  # blank, or cut short by a kill

    def _fingerprint(self, item: Item, answer: str) -> str:
        text = repr((item, answer, self._judge))
        return hashlib.blake2b(text.encode("utf-8"), digest_size=8).hexdigest()
