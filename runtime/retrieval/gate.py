"""When a question is shown what was found for it: `{subject}_knowledge_gate.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    FiniteFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from runtime.common.atomic import replacing
from runtime.common.files import read_bytes
from runtime.retrieval.files import KnowledgeError, gate_path
from runtime.retrieval.search import FEATURES, SHORT


class Gate(BaseModel):
    """A calibrated gate.

    Its mode "off" never shows passages, "always" always does, "threshold" where `feature` is at
    least `at_least`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    subject: str
    base_sha256: str  # of the base that it was calibrated on
    mode: Literal["off", "always", "threshold"]
    feature: str = ""  # one of `FEATURES`
    at_least: FiniteFloat = 0.0
    most_words: PositiveInt = SHORT  # that are shown
    model: str = ""  # the file of the model that it was calibrated with
    adapter: str | None = None  # its file, "" if there was none; None in a gate that does not say
    top_k: int = 0  # the RAG_TOP_K of its calibration
    evidence: dict[str, Any] = {}  # what was measured, for people to read

    @model_validator(mode="after")
    def _known(self) -> Gate:
        if self.mode == "threshold" and self.feature not in FEATURES:
            raise ValueError(f"feature must be one of {', '.join(FEATURES)}")
        return self

    def lets_through(self, features: Mapping[str, float]) -> bool:
        """Whether a question with these features is shown what was found."""
        if self.mode == "threshold":
            return features[self.feature] >= self.at_least
        return self.mode == "always"

    def __str__(self) -> str:
        where = f" with {self.feature} of at least {self.at_least:.3g}"
        if self.mode == "off":
            return "off"
        return f"{self.mode}{where if self.mode == 'threshold' else ''}, {self.most_words} words"

    @classmethod
    def load(cls, folder: Path, subject: str, base_sha256: str) -> Gate | None:
        """The gate beside a base, or None if there is no file.

        Raises:
            KnowledgeError: it cannot be read, or was calibrated on another base.
        """
        path = gate_path(folder, subject)
        again = f"calibrate again: python -m kb.calibrate --subject {subject} ..."
        try:
            gate = cls.model_validate_json(read_bytes(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KnowledgeError(f"{path}: cannot be read ({error.strerror}); {again}") from None
        except ValidationError as error:
            (first, *_) = error.errors(include_url=False)
            problem = ": ".join([*map(str, first["loc"]), first["msg"]])
            raise KnowledgeError(f"{path}: not a gate ({problem}); {again}") from None
        if (gate.subject, gate.base_sha256) != (subject, base_sha256):
            raise KnowledgeError(f"{path}: was calibrated on another base; {again}")
        return gate

    def save(self, folder: Path) -> Path:
        """Write it beside its base, whole or not at all. Raises OSError."""
        path = gate_path(folder, self.subject)
        with replacing(path) as partial:
            text = json.dumps(self.model_dump(), ensure_ascii=False, indent=2)
            partial.write_text(text + "\n", "utf-8", newline="\n")
        return path
