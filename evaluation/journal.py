"""The files of an unfinished evaluation, for `--resume`.

`run.json` has the answers and the timing of the call after it has ended, `results.jsonl.partial`
the verdicts so far. Both are removed when the report is written. An interrupted call is repeated,
as latency is that of a whole call.

A verdict counts only with a seal made with a key that was drawn after the call, so that a pipeline
or another evaluation cannot add verdicts.

A pipeline is identified by its name and its own source files. After a change to its settings,
models or installed packages, delete `run.json` instead of resuming.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from evaluation.errors import EvaluationError
from evaluation.questions import Questions
from evaluation.records import Item, Run, Verdict
from runtime.common.atomic import replacing
from runtime.common.command import explain
from runtime.common.files import read_bytes
from runtime.common.hashing import sha256
from runtime.common.journal import Journal

log = logging.getLogger(__name__)

_VERDICT = TypeAdapter(Verdict)


class Call(BaseModel):
    """A finished call of a pipeline: questions, machine, time and results.

    Attributes:
        sources: hashes of the pipeline's source files, see `hashes`.
        key: for the seals of the verdicts on its answers.
    """

    pipeline: str
    questions_sha256: str
    machine: str
    created: str
    run: Run
    sources: dict[str, str] = {}
    key: str = Field(default_factory=lambda: secrets.token_hex(16))


def hashes(files: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each file, or "" if it cannot be read."""
    found = dict.fromkeys(files, "")
    for file in found:
        with suppress(OSError, ValueError):  # a pipeline may name anything
            found[file] = sha256(Path(file))
    return found


class RunJournal:
    """The files of an unfinished run in its folder.

    If the disk is full, this is logged once and the run continues; it just cannot be resumed.

    Attributes:
        call: the call of a stopped evaluation, or None.

    Raises:
        EvaluationError: there is such a call and `resume` is False, or it belongs to another
            pipeline, earlier sources of it, or other questions.
        OSError: a file cannot be read or created.
    """

    def __init__(
        self, folder: Path, pipeline: str, questions: Questions, judge: str, resume: bool
    ) -> None:
        self.call: Call | None = None
        self._call_path = folder / "run.json"
        self._judge = judge
        self._kept: dict[str, Verdict] = {}
        self._complete = True
        path = folder / "results.jsonl.partial"
        if self._call_path.exists():
            if not resume:
                raise EvaluationError(
                    f"{self._call_path} has the answers of an unfinished evaluation: continue it"
                    " with --resume, or delete the file"
                )
            self.call = self._read_call(pipeline, questions)
        else:  # verdicts without their answers
            path.unlink(missing_ok=True)
        self._verdicts = Journal(path)
        if self.call:
            self._read_verdicts(self.call.key)

    @property
    def resumable(self) -> bool:
        """Whether the answers are on disk."""
        return self._call_path.exists()

    def write_call(self, call: Call) -> None:
        """Store a call so that it survives a kill, unless the disk is full."""
        self.call = call

        def write() -> None:
            with replacing(self._call_path) as partial:
                partial.write_text(call.model_dump_json(), encoding="utf-8")

        self._try(write)

    def kept(self, item: Item, answer: str) -> Verdict | None:
        """The stored verdict on this answer, or None."""
        return self._kept.get(self._fingerprint(item, answer))

    def write_verdict(self, item: Item, answer: str, verdict: Verdict) -> None:
        """Store a verdict so that it survives a kill, unless the disk is full."""
        assert self.call is not None
        entry = {"fingerprint": self._fingerprint(item, answer), **asdict(verdict)}
        sealed = {**entry, "seal": _seal(entry, self.call.key)}
        self._try(lambda: self._verdicts.append(sealed))

    def finish(self) -> None:
        """Remove both files, after the report is written."""
        self._verdicts.discard()
        self._call_path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._verdicts.close()
        if not self.resumable:
            self._verdicts.path.unlink(missing_ok=True)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            if self._complete:
                log.warning("%s; --resume will repeat what could not be kept", explain(error))
            self._complete = False

    def _read_call(self, pipeline: str, questions: Questions) -> Call:
        try:
            call = Call.model_validate_json(read_bytes(self._call_path))
        except ValidationError:
            raise EvaluationError(f"{self._call_path} is damaged: delete it") from None
        if (call.pipeline, call.questions_sha256) != (pipeline, questions.sha256):
            raise EvaluationError(
                f"{self._call_path} has answers of another pipeline ({call.pipeline}) or to other"
                " questions: delete it, or choose another --name"
            )
        if len(call.run.answers) != len(questions.records):
            raise EvaluationError(f"{self._call_path} is damaged: delete it")
        now = hashes(call.sources)
        if changed := [file for file, before in call.sources.items() if now[file] != before]:
            more = f" and {len(changed) - 1} more files" if len(changed) > 1 else ""
            raise EvaluationError(
                f"{self._call_path} has answers from before {changed[0]}{more} changed:"
                " delete it to evaluate the pipeline as it is now"
            )
        return call

    def _read_verdicts(self, key: str) -> None:
        for _, entry in self._verdicts.entries():
            if not isinstance(entry, dict):
                continue
            seal = str(entry.pop("seal", ""))
            if not hmac.compare_digest(seal.encode("utf-8", "replace"), _seal(entry, key).encode()):
                continue
            fingerprint = entry.pop("fingerprint")
            self._kept[fingerprint] = _VERDICT.validate_python(entry)

    def _fingerprint(self, item: Item, answer: str) -> str:
        text = repr((item, answer, self._judge))
        return hashlib.blake2b(text.encode("utf-8"), digest_size=8).hexdigest()


def _seal(entry: dict[str, Any], key: str) -> str:
    """A seal that can only be made with the key."""
    text = json.dumps(entry, sort_keys=True)
    return hmac.new(key.encode(), text.encode(), "sha256").hexdigest()
