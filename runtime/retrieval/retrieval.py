"""What the pipeline asks: passages for questions, where a gate says that they help."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from runtime.retrieval.gate import Gate
from runtime.retrieval.index import Index
from runtime.retrieval.search import find

log = logging.getLogger(__name__)

Use = bool | Literal["always"]


class Retrieval:
    """The bases of all subjects that use them, each with its gate.

    Sentences of at most `top_k` passages are shown for a question.
    """

    def __init__(self, bases: Mapping[str, tuple[Index, Gate]], top_k: int) -> None:
        self._bases = bases
        self._top_k = top_k

    @classmethod
    def load(
        cls,
        folder: Path,
        subjects: Mapping[str, Use],
        top_k: int,
        served: Mapping[str, tuple[str, str]] | None = None,
    ) -> Self:
        """Open the bases of subjects.

        Args:
            subjects: True uses a base as its gate says, and not at all without one; "always"
                shows passages for every question, whatever a gate says; False does not use it.
            served: for each subject the names of the model file and of the adapter that serve it,
                "" without an adapter.

        Raises:
            KnowledgeError: a base, index or gate that is missing, damaged or does not fit.
        """
        bases = {}
        for subject, use in subjects.items():
            if not use:
                continue
            index = Index.load(folder, subject)
            if use == "always":
                gate: Gate | None = Gate(
                    subject=subject, base_sha256=index.base_sha256, mode="always"
                )
            else:
                gate = Gate.load(folder, subject, index.base_sha256)
            if gate is None:
                log.warning(
                    "%s: its knowledge is not used, because there is no gate beside it: run"
                    ' python -m kb.calibrate --subject %s, or set it to "always"',
                    subject,
                    subject,
                )
            elif gate.mode == "off":
                log.info(
                    "%s: its knowledge is not used, because calibration with %s found no benefit",
                    subject,
                    gate.model,
                )
            else:
                if use != "always":
                    _warn_of_changes(gate, top_k, (served or {}).get(subject))
                log.info("%s: %d passages, shown %s", subject, len(index), gate)
                bases[subject] = (index, gate)
        return cls(bases, top_k)

    def passages(self, subject: str, question: str) -> list[str]:
        """The texts to show with a question, best first.

        Empty where the gate is shut, nothing is found or the search fails (the log says why).
        """
        if subject not in self._bases:
            return []
        index, gate = self._bases[subject]
        try:
            found = find(index, question, self._top_k, gate.most_words)
            return found.passages if gate.lets_through(found.features) else []
        except Exception as error:  # a question without context is better than none
            log.warning("%s: no context, the search failed (%r)", subject, error)
            log.debug("the question was %.80r", question, exc_info=True)
            return []


def _warn_of_changes(gate: Gate, top_k: int, served: tuple[str, str] | None) -> None:
    """Log what a gate was calibrated with that is different now."""
    now = {"top_k": str(top_k)}
    if served is not None:
        now["model"], now["adapter"] = served
    for name, value in now.items():
        then = getattr(gate, name)
        if then is not None and str(then) != value:
            log.warning(
                "%s: its gate was calibrated with %s %s and is used with %s",
                gate.subject,
                name,
                then or "none",
                value or "none",
            )
