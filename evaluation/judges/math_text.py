"""From LaTeX and prose to plain expressions: the words and signs of algebra in one spelling.

Each rule carries the example that it is for, which a test runs: `before` becomes `after` by that
rule alone. They are applied in their order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from evaluation.judges.text import spelled, with_digits, without_separators

# The result is at the end; what comes before so many characters is not read.
_MAX_CHARS = 5000
# A unit without a name in words: m, km/h, g, cm^2.
_UNIT = r"(?:[a-z]{1,3}/)?[mgshl](?:/[sh])?(?:\^[23])?"


@dataclass(frozen=True)
class Rule:
    """A replacement by a regular expression, with the example that it is for."""

    pattern: str
    new: str
    before: str
    after: str

    def apply(self, text: str) -> str:
        return re.sub(self.pattern, self.new, text, flags=re.MULTILINE)  # re keeps it compiled


# Applied again and again, from the innermost braces outwards.
INNERMOST = (
    Rule(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))", r"\frac{1}{x}", "((1)/(x))"),
    Rule(r"\\sqrt\s*\{([^{}]*)\}", r"sqrt(\1)", r"\sqrt{2}", "sqrt(2)"),
    Rule(
        r"\\(?:text|textbf|mathrm|mathbf|mathbb|mbox|operatorname)\s*\{([^{}]*)\}",
        r" \1 ",
        r"4\text{ cm}",
        "4  cm ",
    ),
    Rule(r"\^\s*\{([^{}]*)\}", r"^(\1)", "x^{10}", "x^(10)"),
    Rule(r"_\s*\{[^{}]*\}", "", "x_{1} = 2", "x = 2"),
)
LATEX = (
    Rule(r"\\[dt]?frac\s*(\d)\s*(\d)", r"(\1/\2)", r"\frac12", "(1/2)"),
    Rule(r"\{,\}", ",", "1{,}000", "1,000"),
    Rule(r"\\(?:left|right|displaystyle|quad|qquad|[,;:! ])", " ", r"\left(2\right)", " (2 )"),
    Rule(r"\\(?:times|cdot)\b", "*", r"2 \times 3", "2 * 3"),
    Rule(r"\\div\b", "/", r"6 \div 2", "6 / 2"),
    Rule(r"\\pm\b", "±", r"\pm 3", "± 3"),
    Rule(r"\\leq?\b", "≤", r"x \leq 3", "x ≤ 3"),
    Rule(r"\\geq?\b", "≥", r"x \ge 3", "x ≥ 3"),
    Rule(r"\\neq?\b", "≠", r"x \neq 3", "x ≠ 3"),
    Rule(r"\\lt\b", "<", r"x \lt 3", "x < 3"),
    Rule(r"\\gt\b", ">", r"x \gt 3", "x > 3"),
    Rule(r"\\infty\b", "∞", r"(2, \infty)", "(2, ∞)"),
    Rule(
        r"\\(?:rightarrow|Rightarrow|implies|to)\b",
        "⇒",
        r"2x = 8 \Rightarrow x = 4",
        "2x = 8 ⇒ x = 4",
    ),
    Rule(r"\\%", "%", r"75\%", "75%"),
    Rule(r"\\(?:cup|lor)\b", " or ", r"x < 1 \cup x > 2", "x < 1  or  x > 2"),
    Rule(r"\\[()\[\]]|\\\\", " ", r"\(x = 4\)", " x = 4 "),
    Rule(r"\\([a-zA-Z]+)", r" \1 ", r"\pi", " pi "),
)
SIGNS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "–": "-", "π": " pi "})
DROPPED = str.maketrans(dict.fromkeys("$€£¥°`\\", " ") | {"{": " ", "}": " ", "、": ","})
PROSE = (
    # bullets
    Rule(r"^[ \t]*[*-][ \t]+(?=\S+ |[a-z] ?=)", " ", "- x = 4", " x = 4"),
    Rule(r"(?<=[\w)])\*\*(?=[\w(-])", "^", "x**2", "x^2"),
    # bold
    Rule(r"\*\*|__", " ", "**4**", " 4 "),
    Rule(r"_\w\b", "", "x_1 = 2", "x = 2"),
    Rule(r"\b([a-z])[12](?=\s*=)", r"\1", "x1 = 2, x2 = 3", "x = 2, x = 3"),
    Rule(r"(?<=\d) x (?=\d)", " * ", "7 x 8 = 56", "7 * 8 = 56"),
    Rule(
        r"(?<![\w.])(\d+(?:\.\d+)?)e([-+]?\d{1,3})(?![\w.])",
        r"(\1*10^(\2))",
        "1.5e30 but 2e",
        "(1.5*10^(30)) but 2e",
    ),
    Rule(
        r"\b(?:is )?(?:greater|more) than or equal to\b",
        "≥",
        "x is greater than or equal to 3",
        "x ≥ 3",
    ),
    Rule(r"\b(?:is )?less than or equal to\b", "≤", "x is less than or equal to 3", "x ≤ 3"),
    Rule(r"\b(?:is )?at least (?=-?\d)", "≥ ", "x is at least 3", "x ≥ 3"),
    Rule(r"(?<=\b[a-z] )(?:is )?at most (?=-?\d)", "≤ ", "x is at most 3", "x ≤ 3"),
    Rule(
        r"(?<=\b[a-z] )is (?:greater|more|larger|bigger) than\b", ">", "x is larger than 3", "x > 3"
    ),
    Rule(r"(?<=\b[a-z] )is (?:less|smaller) than\b", "<", "x is less than 3", "x < 3"),
    Rule(r"<=", "≤", "x <= 3", "x ≤ 3"),
    Rule(r">=", "≥", "x >= 3", "x ≥ 3"),
    Rule(r"!=", "≠", "x != 3", "x ≠ 3"),
    Rule(r"√\s*(\d+|\([^()]*\)|[a-z])", r"sqrt(\1)", "√ 2", "sqrt(2)"),
    Rule(r"(?<![\d.])(\d+) (\d+)/(\d+)", r"(\1+\2/\3)", "2 1/2", "(2+1/2)"),
    Rule(r"\b(\d+) hal(?:f|ves)\b", r"(\1/2)", "3 halves", "(3/2)"),
    Rule(r"\b(\d+)[ -]thirds?\b", r"(\1/3)", "2 thirds", "(2/3)"),
    Rule(r"\b(\d+)[ -](?:quarter|fourth)s?\b", r"(\1/4)", "3 quarters", "(3/4)"),
    Rule(r"\b(\d+)[ -]fifths?\b", r"(\1/5)", "2 fifths", "(2/5)"),
    Rule(r"(?<=\d)\s*:\s*(?=\d)", "/", "3 : 4", "3/4"),
    Rule(
        r"(?<![\d.])\d+(?:\.\d+)?\s?% of \d+(?:\.\d+)?",
        " share ",
        "15% of 80 is 12",
        " share  is 12",
    ),
    Rule(r"(?<=\d) percent\b|(?<=\d) per cent\b", "%", "75 percent", "75%"),
    Rule(r"(?<=\d)\.\.\.|(?<=\d)…", " ", "0.333... is it", "0.333  is it"),
    Rule(r"'s\b", " ", "it's 4", "it  4"),
    Rule(r"\b(?:negative|minus) (?=\d)", "-", "negative 2", "-2"),
    Rule(r"\b([a-z]) (?:is|equals|is equal to) (?=[-\d(])", r"\1 = ", "x equals 4", "x = 4"),
    # "a" and "I" as words
    Rule(
        r"\ba\b(?!\s*[-+*/^=<>≤≥)])(?=\s)|\bi (?=[a-z]{2,})",
        " ",
        "a 5, i get a = 3",
        "  5,  get a = 3",
    ),
    Rule(
        rf"(?<=\d)\s+{_UNIT}(?=\s*(?:[,;.)=]|$|\s[a-z]{{2,}}))",
        " ",
        "5 m/s, or 3 h = x",
        "5 , or 3  = x",
    ),
    Rule(
        r"(?<=\d)\s*(?:km|kg|cm|mm|ml)\b(?:/[a-z]{1,3}\b|\^[23])?",
        " ",
        "60km/h by 5 cm^2",
        "60  by 5 ",
    ),
    Rule(r"\b[a-z]{2,}(?<!pi)\^[23]\b", " units ", "25 cm^2", "25  units "),
    Rule(r"\([a-z], ?[a-z]\)\s*=", " ", "(x, y) = (3, 2)", "  (3, 2)"),
)
# Two numbers in parentheses are a point, unless an interval is asked for.
POINT = Rule(
    r"\(\s*([^(),]{1,40}),\s*([^(),]{1,40})\)", r" x = \1, y = \2 ", "(2, 3)", " x = 2, y = 3 "
)

SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？\n]")
# Sentences that come after the result.
AFTERTHOUGHT = re.compile(
    r"\W*(?:(?:to |let us |let's |we (?:can )?)?(?:check|verif)|substituting back|检验|验证|检查"
    r"|(?:we|i|you) (?:can |have )?(?:get|got|find|found|obtain(?:ed)?) (?:this|it) by\b"
    r"|(?:this|it) (?:is|was|can be) (?:because|(?:found|obtained|calculated) by)\b)"
)
ASKED = re.compile(
    r"\b(?:solve for|find|determine|what is|value of) ([a-z])(?=\s*(?:[?.,:;]|$|(?:if|when|in)\b))"
)
CONDITION = re.compile(r"\b(?:because|since|when|where|if|(?:to|of) the equation)\b|因为")
CONNECTIVE = re.compile(
    r"\b(?:is|are|was|be|equals?|equal to|so|therefore|thus|hence|gives?|get|have|costs?"
    r"|total(?: of)?|results? in)\b|:(?=\s|\S*$)|=>|[→⇒∴]|等于|所以|因此|答案|结果|[是为得]"
)
# For each of these a text in which it is found, with what it finds, and one in which it is not.
EXAMPLES = (
    (SENTENCE_END, "It is 4. Yes.", ".", "3.5"),
    (AFTERTHOUGHT, "let's check: 2(4) = 8", "let's check", "the sum is 5"),
    (ASKED, "solve for x: 2x = 8", "solve for x", "solve for xy"),
    (CONDITION, "4 because 2*4 = 8", "because", "the cause is 4"),
    (CONNECTIVE, "so x = 4", "so", "solution 4"),
)


def plain(text: str, points: bool = True) -> str:
    """An answer, or what it marks as its result, in lower case with plain operators.

    Args:
        text: any text.
        points: "(2, 3)" is a point, and becomes "x = 2, y = 3".
    """
    text = _marked(text[-_MAX_CHARS:])
    for _ in range(10):
        before = text
        for rule in INNERMOST:
            text = rule.apply(text)
        if text == before:
            break
    for rule in LATEX:
        text = rule.apply(text)
    text = re.sub("[₀-₉]", "", text)
    text = without_separators(spelled(text.translate(SIGNS).translate(DROPPED)))
    text = with_digits(without_separators(text))
    for rule in PROSE:
        text = rule.apply(text)
    return POINT.apply(text) if points else text


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
