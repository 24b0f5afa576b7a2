"""Which files have passed their trial, so that none is tried twice.

The trial (`runtime.engine.probe`) loads files in a process of its own, which takes a second
for a gigabyte. Files that passed are noted in `MODELS_DIR/.trials.json`, with llama-cpp-python's
version; a file that changes is tried again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from runtime.common.files import read_json, write_json
from runtime.engine import EngineError, check_gguf
from runtime.engine.library import version
from runtime.engine.probe import crash_reason
from runtime.files.manifest import ModelFiles

log = logging.getLogger(__name__)

FILE_NAME = ".trials.json"
_MOST_KEPT = 200
# Increased when the trial tests more, so that files that passed before are tried again.
_TRIAL = "2"


class Trials:
    """The trials noted in a folder (`MODELS_DIR`). Notes that cannot be read or written are
    ignored."""

    def __init__(self, folder: Path, files: ModelFiles) -> None:
        self._path, self._files = folder / FILE_NAME, files
        try:
            passed = read_json(self._path)
            self._passed = [str(key) for key in passed] if isinstance(passed, list) else []
        except (OSError, ValueError):
            self._passed = []

    def refuse_crashing(self, model: Path, adapters: Sequence[Path] = ()) -> None:
        """Raise EngineError for files that are not GGUF or on which llama.cpp crashes."""
        for path in (model, *adapters):
            check_gguf(path)
        if reason := self._crash_reason(model, adapters):
            among = f" or an adapter on it ({', '.join(map(str, adapters))})" if adapters else ""
            raise EngineError(f"{model}{among} is damaged: llama.cpp crashes on it ({reason})")

    def _crash_reason(self, model: Path, adapters: Sequence[Path]) -> str:
        # Of the files, and of the trial and the llama.cpp that tries them.
        parts = [_TRIAL, version(), *map(self._files.identity, [model, *adapters])]
        key = hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()
        if key in self._passed:
            return ""
        reason = crash_reason(model, adapters)
        if not reason:
            self._passed = [*self._passed, key][-_MOST_KEPT:]
            try:
                write_json(self._path, self._passed)
            except OSError as error:
                log.debug("%s cannot be written: %s", self._path, error)
        return reason
