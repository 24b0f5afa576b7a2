"""From an answer's prose to plain expressions in it: the words of algebra in one spelling.

Typesetting is `algebra.notation`'s. Each rule here carries the example that it is for, which a test
runs: `before` becomes `after` by that rule alone. They are applied in their order.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from algebra import notation
from algebra.words import with_digits, without_separators
from evaluation.judges.text import spelled

# The result is at the end; what comes before these last characters is not read.
_MAX_CHARS = 5000
# A unit without a name in words: m, km/h, g, cm^2.
_UNIT = r"(?:[a-z]{1,3}/)?[mgshl](?:/[sh])?(?:\^\(?[23]\)?)?"


@dataclass(frozen=True)
class Rule:
    """A replacement by a regular expression, with the example that it is for."""

    pattern: str
    new: str
    before: str
    after: str

    def apply(self, text: str) -> str:
        return re.sub(self.pattern, self.new, text, flags=re.MULTILINE)  # re keeps it compiled


# Applied to an answer as it was written.
MARKUP = (
    # bullets
    Rule(r"^[ \t]*[*-][ \t]{1,9}(?=\S+ |[a-z] ?=)", " ", "- x = 4", " x = 4"),
    # the exact tool reads no dot between digits, which may be a decimal point
    Rule(r"(?<=\d) ?· ?(?=\d)", " * ", "2^3·3^2", "2^3 * 3^2"),
    # a letter and degrees as the exact tool writes them
    Rule("λ", "l", "λ = 2", "l = 2"),
    Rule(r"°\s?[CF]\b", " ", "68 °F = 20 °C", "68   = 20  "),
    # layout that the exact tool does not have; an unknown command makes its expression unreadable
    Rule(
        r"\\(?:(?:begin|end)\{(?:align|equation|gather)\*?\}|tag\{[^}]*\}|newline|bf\b)",
        " ",
        r"\begin{align*}x = 4 \tag{1}",
        " x = 4  ",
    ),
)
# Applied to it in plain notation and lower case.
PROSE = (
    Rule(
        r"\blog(?:arithm)?s? (?:are )?(?:to|in) (?:the )?base \d+",
        "",
        "with logarithms to base 10, log(4)",
        "with , log(4)",
    ),
    Rule(r"(?<!log)(?<!\d)_(?:\d(?=\s*=)|[a-z]\b)", "", "x_1 = 2, log_2(8)", "x = 2, log_2(8)"),
    Rule(r"(?<=\d) \(?(?:in )?base (\d+)\)?", r"_\1", "55 (base 8)", "55_8"),
    Rule(r"\b([a-z])[12](?=\s*=)", r"\1", "x1 = 2, x2 = 3", "x = 2, x = 3"),
    Rule(r"(?<=\d) x (?=\d)", " * ", "7 x 8 = 56", "7 * 8 = 56"),
    Rule(r"(?<=\d) an? (?!and |or |is )(?=[a-z]{2})", " per ", "20 a day, 5 a", "20 per day, 5 a"),
    Rule(
        r"\b(?:is )?(?:greater|more) than or equal to\b",
        "≥",
        "x is greater than or equal to 3",
        "x ≥ 3",
    ),
    Rule(r"大于(?:或|或者)?等于", "≥", "x 大于或等于 3", "x ≥ 3"),
    Rule(r"小于(?:或|或者)?等于", "≤", "x 小于等于 3", "x ≤ 3"),
    Rule(r"\bnot [^,;.]{1,20}? but\b", " ", "not 0 but 3", "  3"),
    Rule(r"\b(?:is )?less than or equal to\b", "≤", "x is less than or equal to 3", "x ≤ 3"),
    Rule(r"\b(?:is )?at least (?=-?\d)", "≥ ", "x is at least 3", "x ≥ 3"),
    Rule(r"(?<=\b[a-z] )(?:is )?at most (?=-?\d)", "≤ ", "x is at most 3", "x ≤ 3"),
    Rule(
        r"(?<=\b[a-z] )(?:is )?(?:greater|more|larger|bigger) than\b|大于",
        ">",
        "x is larger than 3",
        "x > 3",
    ),
    Rule(r"(?<=\b[a-z] )(?:is )?(?:less|smaller) than\b|小于", "<", "x is less than 3", "x < 3"),
    Rule(
        r"\b([a-z]) ?([<>≤≥]) ?(\S+) and (?:is )?less than\b",
        r"\1 \2 \3 and \1 <",
        "x > 1 and less than 2",
        "x > 1 and x < 2",
    ),
    Rule(r"(?<![\d,.(])0,(?=\d+(?![\d,]))", "0.", "0,875 of it", "0.875 of it"),
    Rule(r"<=", "≤", "x <= 3", "x ≤ 3"),
    Rule(r">=", "≥", "x >= 3", "x ≥ 3"),
    Rule(r"\blog base (\d+) of (\d+)", r"log_\1(\2)", "log base 2 of 7", "log_2(7)"),
    Rule(
        r"(?<![a-z])(sqrt|cbrt|ln|log(?:_\d+)?) *(\d+(?:\.\d+)?|[a-z]\b)",
        r"\1(\2)",
        "3sqrt 2, ln 7",
        "3sqrt(2), ln(7)",
    ),
    Rule(r"(?<![\d.])(\d+) (\d+)/(\d+)", r"(\1+\2/\3)", "2 1/2", "(2+1/2)"),
    Rule(r"\b(\d+) and a (?=half|third|quarter)", r"\1+1 ", "2 and a half", "2+1 half"),
    Rule(r"\b(\d+)[ -](?:half|halves)\b", r"(\1/2)", "1 half", "(1/2)"),
    Rule(r"\b(\d+)[ -]thirds?\b", r"(\1/3)", "2 thirds", "(2/3)"),
    Rule(r"\b(\d+)[ -](?:quarter|fourth)s?\b", r"(\1/4)", "3 quarters", "(3/4)"),
    Rule(r"(?<=\d)\s*:\s*(?=\d)", ":", "3 : 4", "3:4"),
    Rule(r"(?<=\d) to (?=\d+\W*$)", ":", "the ratio is 3 to 4.", "the ratio is 3:4."),
    Rule(r"\b(?:negative|minus) (?=\d)", "-", "negative 2", "-2"),
    Rule(
        rf"(?<=\d)\s{{1,9}}{_UNIT}(?=\s{{0,9}}(?:[,;.)=]|$|\s[a-z]{{2,}}))",
        " ",
        "5 m/s, or 3 h = x",
        "5 , or 3  = x",
    ),
    Rule(
        r"(?<=\d)\s{0,9}(?:km|kg|cm|mm|ml)\b(?:/[a-z]{1,3}\b|\^\(?[23]\)?)?",
        " ",
        "60km/h by 5 cm^(2)",
        "60  by 5 ",
    ),
    Rule(r"\([a-z], ?[a-z]\)\s*=", " ", "(x, y) = (3, 2)", "  (3, 2)"),
)

SENTENCE_END = re.compile(r"\.(?=\s|$)|(?<=\w[a-z])!(?=\s|$)|\?(?=\s|$)|[。！？\n]")
# Sentences that come after the result.
AFTERTHOUGHT = re.compile(
    r"\W{0,9}(?:(?:to |let us |let's |we (?:can )?)?(?:check|verif)|substituting back"
    r"|检验|验证|检查"
    r"|(?:we|i|you) (?:can |have )?(?:get|got|find|found|obtain(?:ed)?) (?:this|it) by\b"
    r"|(?:this|it) (?:is|was|can be) (?:because|(?:found|obtained|calculated) by)\b)"
)
ASKED = re.compile(
    r"\b(?:solve for|find|determine|what is|value of) ([a-z])(?=\s*(?:[?.,:;]|$|(?:if|when|in)\b))"
)
CONDITION = re.compile(
    r"\b(?:because|since|when|where|if|(?:to|of) the equation)\b|因为"
    r"|\b(?:for|in|after) (?:the |all )?\d+ [a-z ]+$"
)
CONNECTIVE = re.compile(
    r"\b(?:is|are|was|be|equals?|equal to|so|therefore|thus|hence|gives?|get|have|has|costs?"
    r"|total(?: of)?|results? in)\b|:(?!\d)(?=\s|\S*$)|=>|[→⇒∴]|等于|所以|因此|答案|结果|[是为得]"
)
# For each of these a text in which it is found, with what it finds, and one in which it is not.
EXAMPLES = (
    (SENTENCE_END, "It is 4. Yes.", ".", "3.5"),
    (AFTERTHOUGHT, "let's check: 2(4) = 8", "let's check", "the sum is 5"),
    (ASKED, "solve for x: 2x = 8", "solve for x", "solve for xy"),
    (CONDITION, "4 because 2*4 = 8", "because", "the cause is 4"),
    (CONNECTIVE, "so x = 4", "so", "solution 4"),
)
_POINT = re.compile(r"(?<![\w)])\((\s?[^(),]{1,40}(?:\([^(),]{1,20}\))?(?:,[^(),]{1,40}){1,5})\)")
_DROPPED = str.maketrans(dict.fromkeys("$€£¥°`", " ") | {"{": " ", "}": " "})
# Runs of white space are nothing, and long ones cost a regular expression time.
_SPACES = re.compile(r"[^\S\n]{2,}")


def plain(text: str, points: bool = True) -> str:
    """An answer, or what it marks as its result, in lower case and plain notation.

    Args:
        text: any text.
        points: "(2, 3)" is a point, and becomes "#0.0 = 2, #0.1 = 3" (point 0, coordinates 0, 1).
    """
    text = _SPACES.sub(" ", _marked(text[-_MAX_CHARS:]))
    for rule in MARKUP:
        text = rule.apply(text)
    text = "\n".join(notation.plain(line) for line in text.split("\n"))
    text = re.sub("[₀-₉]", "", text)
    text = without_separators(spelled(text.translate(_DROPPED)))
    text = _SPACES.sub(" ", with_digits(without_separators(text)))
    for rule in PROSE:
        text = rule.apply(text)
    return _with_points(text) if points else text


def _with_points(text: str) -> str:
    count = itertools.count()

    def coordinates(match: re.Match[str]) -> str:
        number = next(count)
        parts = match[1].split(",")
        return " " + ", ".join(f"#{number}.{n} = {part}" for n, part in enumerate(parts)) + " "

    return _POINT.sub(coordinates, text)


def _marked(text: str) -> str:
    """What stands in the last \\boxed{} or after the last ####; the whole text without them."""
    at = text.rfind("\\boxed{")
    if at >= 0:
        start = at + len("\\boxed{")
        depth = 1
        for index in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[index], 0)
            if depth == 0:
                return text[start:index]
    return text.rpartition("####")[2]
