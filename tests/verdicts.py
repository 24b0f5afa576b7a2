"""The verdict of the judges by rules on an answer."""

from __future__ import annotations

from evaluation.judges import judge
from evaluation.records import Item, Verdict

CITIES = ("London", "Paris", "Rome", "Berlin")


def verdict(
    subject: str, reference: str | tuple[str, ...], answer: str, choices: tuple[str, ...] = ()
) -> Verdict:
    """The verdict on an answer to a question that shows its choices with letters, if it has any."""
    references = (reference,) if isinstance(reference, str) else reference
    shown = "".join(f" {letter}. {c}" for letter, c in zip("ABCDEFGH", choices, strict=False))
    return judge(Item("1", subject, f"?{shown}", references, choices), answer)
