"""From the ways in which exercises are typeset to one plain notation.

LaTeX, superscripts, full-width and typographic signs become what `syntax` reads: `^` for
powers, `*` and `/`, `sqrt(...)`, `<=`. What is not known is left as it is, and `syntax` refuses it.
"""

from __future__ import annotations

import re

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ", "0123456789+-nx", strict=True))
_SUPERSCRIPT = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")

_SIGNS: dict[str, str] = {
    **dict.fromkeys("×·⋅∙✕✖＊", "*"),
    **dict.fromkeys("÷／∕⁄", "/"),
    **dict.fromkeys("−–﹣－‐‑‒", "-"),
    **dict.fromkeys("≤⩽≦", "<="),
    **dict.fromkeys("≥⩾≧", ">="),
    **dict.fromkeys("\u00a0\u2002\u2003\u2009\u200a\u202f\u3000\t", " "),
    **dict.fromkeys("√", "sqrt "),
    **dict.fromkeys("（［【", "("),
    **dict.fromkeys("）］】", ")"),
    **{chr(0xFF10 + n): str(n) for n in range(10)},
    **{chr(0xFF21 + n): chr(0x41 + n) for n in range(26)},
    **{chr(0xFF41 + n): chr(0x61 + n) for n in range(26)},
    "≠": "!=",
    "∛": "cbrt ",
    "π": " pi ",
    "＝": "=",
    "＋": "+",
    "＜": "<",
    "＞": ">",
    "＾": "^",
    "％": "%",
    "｜": "|",
    "＄": "$",
    "！": "!",
    "，": ", ",
    "、": ", ",
    "。": ". ",
    "．": ".",
    "：": ": ",
    "；": "; ",
    "？": "?",
    "…": "...",
    "’": "'",
    "½": " 1/2",
    "⅓": " 1/3",
    "⅔": " 2/3",
    "¼": " 1/4",
    "¾": " 3/4",
    "⅕": " 1/5",
    "⅛": " 1/8",
    "⅜": " 3/8",
    "⅝": " 5/8",
    "⅞": " 7/8",
}
_TABLE = str.maketrans(_SIGNS)

# LaTeX's commands that stand for one sign; those for spacing and size stand for none.
_COMMANDS = {
    "times": "*",
    "cdot": "*",
    "ast": "*",
    "div": "/",
    "le": "<=",
    "leq": "<=",
    "leqslant": "<=",
    "ge": ">=",
    "geq": ">=",
    "geqslant": ">=",
    "lt": "<",
    "gt": ">",
    "ne": "!=",
    "neq": "!=",
    "pi": " pi ",
    "log": "log",
    "ln": "ln",
    "lvert": "|",
    "rvert": "|",
    "vert": "|",
    "ldots": "...",
    "cdots": "...",
    "dots": "...",
    **dict.fromkeys(("left", "right", "displaystyle", "quad", "qquad", "limits"), " "),
}
_CASES = re.compile(r"\\begin\s*\{(?:cases|aligned|array)\}(?:\{[lcr]*\})?(.*?)\\end\s*\{\w+\}")
_INNERMOST = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)"), r"((\1)/(\2))"),
    (re.compile(r"\\sqrt\s*\[3\]\s*\{([^{}]*)\}"), r"cbrt(\1)"),
    (re.compile(r"\\sqrt\s*\{([^{}]*)\}"), r"sqrt(\1)"),
    (re.compile(r"\\sqrt\s*(\d)"), r"sqrt(\1)"),
    (re.compile(r"\\(?:text|mathrm|mbox|operatorname)\s*\{([^{}\\]*)\}"), r" \1 "),
    (re.compile(r"\^\s*\{([^{}]*)\}"), r"^(\1)"),
    (re.compile(r"_\s*\{(\d+)\}"), r"_\1"),
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
# A mixed number in LaTeX, 2\frac{1}{2}.
_MIXED = re.compile(r"(?<![\d.^])(\d+)\s*\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}")
_MAX_NESTED = 12


def plain(text: str) -> str:
    """A question's text in plain notation, its words as they were, its white space single."""
    text = _SUPERSCRIPT.sub(_raised, text)
    text = re.sub(r"log([₀-₉]+)", lambda m: "log_" + m[1].translate(_SUBSCRIPTS), text)
    if "\\" in text:
        text = _from_latex(text)
    text = text.translate(_TABLE).replace("**", "^")
    text = _without_delimiters(text)
    text = re.sub(r"(?<=\S) *\n+ *(?=\S)", " ; ", text)  # equations, one a line
    text = re.sub(r"(?<=[:.;,?]) ;(?= )", "", text)
    return " ".join(text.split())


def _raised(match: re.Match[str]) -> str:
    return "^(" + "".join(_SUPERSCRIPTS[sign] for sign in match[0]) + ")"


def _from_latex(text: str) -> str:
    text = _CASES.sub(lambda m: m[1].replace("\\\\", " ; ").replace("&", " "), text)
    text = re.sub(r"\\[,;:! ]", " ", text)
    text = re.sub(r"\\[()\[\]]", "$", text)
    text = text.replace("\\%", "%").replace("\\$", "\\dollar ").replace("{,}", ",")
    text = _MIXED.sub(r"(\1+(\2)/(\3))", text)
    for _ in range(_MAX_NESTED):  # from the innermost braces outwards
        before = text
        for pattern, new in _INNERMOST:
            text = pattern.sub(new, text)
        if text == before:
            break
    return _COMMAND.sub(lambda m: _COMMANDS.get(m[1], m[0]), text)


def _without_delimiters(text: str) -> str:
    """Take away LaTeX's dollars; one that stands for money stays."""
    text = text.replace("$$", "$")
    return text.replace("$", " ") if text.count("$") % 2 == 0 and not _money(text) else text


def _money(text: str) -> bool:
    """Whether dollars are money: each is followed by a number that no dollar closes."""
    pieces = text.split("$")
    inside = pieces[1::2]
    return any(re.search(r"[A-Za-z]{4,}", piece) for piece in inside)


def without_separators(text: str) -> str:
    """1,000,000 as 1000000; not where there are lists of numbers."""
    return re.sub(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])", lambda m: m[0].replace(",", ""), text)
