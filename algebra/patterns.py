"""Pieces of the patterns that exercises are recognized by."""

from __future__ import annotations

from algebra.phrases import NUMBER, POINT

V = r"(?P<v>[A-Za-z](?:(?:, ?(?:and )?| and )[A-Za-z])*)"
V2 = V.replace("<v>", "<v2>")
WHAT = (
    r"(?:what is|what's|what are|find|calculate|compute|work out|determine|evaluate|how much is"
    r"|give|state)(?: the value of)?"
)
IF = r"(?:if|given that|given|suppose|suppose that|when|let)"
EQUATIONS = (
    r"(?:the )?(?:following )?(?:simultaneous |linear |quadratic |cubic |rational |radical "
    r"|exponential |logarithmic |absolute value |polynomial )?"
    r"(?:system of linear equations|system of equations|systems of equations|pair of equations"
    r"|equations|equation|inequalities|inequality|linear system|system)\b"
)
LIST = rf"(?P<ns>{NUMBER}(?: ?,? (?:and )?|, ?){NUMBER}(?:(?:, ?(?:and )?| and ){NUMBER})*)"
TERMS = rf"(?P<ns>{NUMBER}(?:, ?{NUMBER}){{2,14}})(?:,? ?\.\.\.,?|,)?"
FAMILY = r"(?:(?P<family>arithmetic|geometric) )?"
SERIES = r"(?:sequence|progression|series|pattern|number sequence|list)"
NTH = r"(?P<n>\d{1,6})(?:st|nd|rd|th)"
MONEY = r"(?P<u>[$€£¥])?"
POINTS = rf"(?:the )?(?:points? )?(?P<p>{POINT}) (?:and|to) (?:the point )?(?P<q>{POINT})"


def named(name: str) -> str:
    """A number that a builder takes by a name."""
    return rf"(?P<{name}>{NUMBER})"


A, B, D = (named(name) for name in "abd")
PERCENT = r" ?(?:%|percent|per cent)"
