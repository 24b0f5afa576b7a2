"""What an answer claims: the values that its prose gives to things.

Which part of an answer is its result is decided here, and `values` says what it is worth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from algebra.syntax import FUNCTIONS, TRIGONOMETRIC
from evaluation.judges import values
from evaluation.judges.math_text import AFTERTHOUGHT, CONDITION, CONNECTIVE, SENTENCE_END, plain
from evaluation.judges.text import HAN
from evaluation.judges.values import Value

_RELATIONS = "=<>≤≥≠≈"
INEQUALITIES = "<>≤≥≠"
_CALLS = "|".join(sorted(FUNCTIONS | TRIGONOMETRIC, key=len, reverse=True))
_PIECE = re.compile(
    rf"(?P<number>\d+(?:_\d+|(?::\d+)+|\.\d+)?|\.\d+)|(?P<name>(?:log_\d+|{_CALLS}|pi"
    rf"|#\d\.\d|[xyz]{{2,3}}|[abc]{{2,3}}|[a-z])(?![^\W\d_]))|(?P<open>\()"
    rf"|(?P<sign>\\[a-z]+|(?<=[\w)])!(?!\w)|[-+*/÷^)|%±{_RELATIONS}])|(?P<word>[{HAN}]|(?:(?![{HAN}])[^\W_])+|\S)"
)
# A command or a digit with a sign is an expression even if it cannot be read. It then counts as a
# result without a value, so that nothing before it is taken for the result.
_UNREADABLE = re.compile(r"\\|\d\s*[-+*/÷^!|]|[-+*/÷^|]\s*\d")
_JOINT = re.compile(r"[\s,;&]*(?:(?:and|or|和|或|以及|且)[\s,]*)?$")


@dataclass(frozen=True)
class Claim:
    """That something has a value.

    Attributes:
        name: the left side of an equation ("x", "2x+y"), with "<" or the like where it is an
            inequality; "#0.1" for the second coordinate of the first point; "" for a value alone.
        values: of the right side, one for each of its readings.
        text: the right side as it was written.
        percent: a percent sign was there.
        step: it is the right side of an equation between numbers.
    """

    name: str
    values: tuple[Value, ...]
    text: str
    percent: bool = False
    step: bool = False


def results(text: str) -> list[Claim]:
    """What a text comes to: the claims of its conclusion, several for "x = 2 or x = -3"."""
    for sentence in reversed(conclusions(plain(text))):
        for part in (CONDITION.split(sentence)[0], sentence):
            starts = [0, *(match.end() for match in CONNECTIVE.finditer(part))]
            ends = [*starts[1:], len(part)]
            for start, end in reversed(list(zip(starts, ends, strict=True))):
                runs = _runs(part[start:end], prose=start > 0)
                if runs:  # "is 22 for 4 notebooks", but "4 notebooks cost 22"
                    return _solved(runs[0] if start else runs[-1])
    return []


def conclusions(text: str) -> list[str]:
    """The sentences of a plain text, without those that come after the result."""
    return [s for s in SENTENCE_END.split(text) if s.strip() and not AFTERTHOUGHT.match(s)]


def _solved(claims: list[Claim]) -> list[Claim]:
    """Claims without steps on the way: 3*12 = 36, 2x = 8 where there is x = 4."""
    if len(claims) > 1 and all(claim.step for claim in claims):
        return claims[-1:]
    if not any(claim.name.isalpha() for claim in claims):
        return claims
    return [claim for claim in claims if not claim.name or claim.name.isalpha() or relation(claim)]


def relation(claim: Claim) -> str:
    """The signs of an inequality, "" for an equation or a value."""
    return "".join(sign for sign in claim.name if sign in INEQUALITIES)


def claims(text: str) -> list[Claim]:
    """Every claim of a text with a name, in its order."""
    runs = [run for sentence in SENTENCE_END.split(plain(text)) for run in _runs(sentence)]
    return [claim for run in runs for claim in run if claim.name]


def _runs(text: str, prose: bool = False) -> list[list[Claim]]:
    """Claims, those together that only "and", "or" and commas separate.

    Args:
        text: in plain notation.
        prose: it comes after words, and its last "!" may be their end.
    """
    runs: list[list[Claim]] = []
    end = 0
    for start, stop in _lumps(text):
        lump = text[start:stop]
        claims = _claim(lump, _bare(text) == _bare(lump))
        if prose and lump.endswith("!"):  # "The answer is 6!"
            spoken = _claim(lump.rstrip("!"), _bare(text) == _bare(lump))
            both = zip(claims, spoken, strict=False)
            claims = [replace(c, values=c.values + other.values) for c, other in both] or spoken
        if claims and runs and _JOINT.match(text[end:start]):
            runs[-1] += claims
        elif claims:
            runs.append(claims)
        end = stop if claims else end
    return runs


def _bare(text: str) -> str:
    return text.strip(" .,;!?()")


def _lumps(text: str) -> Iterator[tuple[int, int]]:
    """Spans that may be expressions or equations."""
    start = end = 0
    previous = "word"
    for match in _PIECE.finditer(text):
        kind = str(match.lastgroup)
        gap = match.start() > end
        # "2 x" and "3 (x+1)" are products; "x 2" and "4 5" are two things.
        product = previous in ("number", "name") and kind in ("name", "open")
        joined = not gap or "sign" in (previous, kind) or previous == "open" or product
        if kind == "word" or previous == "word" or not joined:
            if previous != "word":
                yield start, end
            start = match.start()
        end, previous = match.end(), kind
    if previous != "word":
        yield start, end


def _claim(lump: str, alone: bool) -> list[Claim]:
    """The claim of an equation or expression, two if there is a ±, none if it makes no sense."""
    if "±" in lump:
        signs = [lump.replace("±", sign) for sign in "+-"]
        return [claim for text in signs for claim in _claim(text, alone)]
    percent = "%" in lump
    sides = [_trimmed(side) for side in re.split(f"[{_RELATIONS}]", lump.replace("%", ""))]
    relations = re.findall(f"[{_RELATIONS}]", lump)
    value = sides[-1]
    # Without a digit or an operator it is a letter out of some sentence.
    if not (alone or relations or re.search(r"\d|\w[-+*/^]\w", value.replace(" ", ""))):
        return []
    found = _read(value)
    if not found and not _UNREADABLE.search(value):
        return []
    inequality = [relation for relation in relations if relation in INEQUALITIES]
    name = re.sub(r"\s", "", sides[0]) if relations else ""
    if inequality:
        name = "".join([name, *sides[1:-1], *inequality])
    elif not re.search("[a-z#]", name):  # 12 + 10 = 22
        name = ""
    name = re.sub(r"^([a-z])(?:\^\(-1\))?\([a-z]\)", r"\1", name)
    return [Claim(name, found, value, percent, step=bool(relations) and not name)]


def _read(text: str) -> tuple[Value, ...]:
    """What an expression, a number to a base (55_8) or a ratio (2:3) is worth."""
    if re.fullmatch(r"\d+_\d+|\d+(?::\d+)+", text):
        return (values.named(text),)
    return values.read(text)


def _trimmed(side: str) -> str:
    """An expression without the operators and parentheses that prose has left at its ends."""
    side = side.strip().lstrip("*/^) ").rstrip("-+*/^( ")
    if side.count("(") > side.count(")"):
        side = side.removeprefix("(")
    elif side.count(")") > side.count("("):
        side = side.removesuffix(")")
    return side.strip()
