"""The notation of `forms`, and pieces that many forms share."""

from __future__ import annotations

import re

from algebra.phrases import NUMBER, POINT

_TOKEN = re.compile(r"\\.|\[(?:\\.|[^\]])*\]|\(\?P<\w+>|\(\?|[(<>]")
_REGEX = {"(": "(?:", "<": "(?:", ">": ")?"}


def regex(form: str) -> str:
    """The regular expression of a form.

    A form is a regular expression in which <...> is optional and (...) does not capture.
    """
    return _TOKEN.sub(lambda match: _REGEX.get(match[0], match[0]), form)


def named(name: str) -> str:
    """A number that the builder gets as an argument of this name."""
    return rf"(?P<{name}>{NUMBER})"


A, B, D = (named(name) for name in "abd")
V = r"(?P<v>[A-Za-z]((, ?<and >| and )[A-Za-z])*)"
V2 = V.replace("?P<v>", "?P<v2>")
WHAT = (
    "(what is|what's|what are|find|calculate|compute|work out|determine|evaluate|how much is"
    "|give|state)< the value of>"
)
IF = "(if|given that|given|suppose|suppose that|when|let)"
EQUATIONS = (
    "<the ><following ><simultaneous |linear |quadratic |cubic |rational |radical |exponential "
    "|logarithmic |absolute value |polynomial >(system of linear equations|system of equations"
    r"|systems of equations|pair of equations|equations|equation|inequalities|inequality"
    r"|linear system|system)\b"
)
LIST = rf"(?P<ns>{NUMBER}( ?,? <and >|, ?){NUMBER}((, ?<and >| and ){NUMBER})*)"
TERMS = rf"(?P<ns>{NUMBER}(, ?{NUMBER}){{2,14}})<,? ?\.\.\.,?|,>"
FAMILY = "<(?P<family>arithmetic|geometric) >"
SERIES = "(sequence|progression|series|pattern|number sequence|list)"
NTH = r"(?P<n>\d{1,6})(st|nd|rd|th)"
MONEY = "<(?P<u>[$€£¥])>"
PERCENT = " ?(%|percent|per cent)"
POINTS = rf"<the ><points? >(?P<p>{POINT}) (and|to) <the point >(?P<q>{POINT})"
MATRIX = r"(?P<m>\[ ?\[[^\[\]]+\](, ?\[[^\[\]]+\]){1,3} ?\])"
