"""Converts the ways to typeset exercises to one plain notation.

LaTeX, superscripts, full-width and typographic signs become what `parser` reads: `^` for powers,
`*`, `sqrt(...)`, `<=`. Distinctions that decide how a text is read are kept: `÷` is not a slash, ½
stays one character, and a fraction with a bar is put in brackets. Unknown signs are left as they
are; the parser refuses them.
"""

from __future__ import annotations

import re
from unicodedata import normalize

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ", "0123456789+-nx", strict=True))
_SUPERSCRIPT = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+(?!√)")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")

_SIGNS: dict[str, str] = {
    **dict.fromkeys("×·⋅∙✕✖＊", "*"),
    **dict.fromkeys("／∕", "/"),
    **dict.fromkeys("−–﹣－‐‑‒", "-"),
    **dict.fromkeys("≤⩽≦", "<="),
    **dict.fromkeys("≥⩾≧", ">="),
    **dict.fromkeys("\u00a0\u2002\u2003\u2009\u200a\u202f\u3000\t", " "),
    **dict(zip("（【）】［］", "(())[]", strict=True)),
    **{chr(0xFF10 + n): str(n) for n in range(10)},
    **{chr(0xFF21 + n): chr(0x41 + n) for n in range(26)},
    **{chr(0xFF41 + n): chr(0x61 + n) for n in range(26)},
    **dict(zip("＝＋＜＞＾％｜＄！？’．", "=+<>^%|$!?'.", strict=True)),
    **dict(zip("，、。：；", (", ", ", ", ". ", ": ", "; "), strict=True)),
    **{"≠": " != ", "√": "sqrt ", "∛": "cbrt ", "∑": r"\sum", "…": "..."},
}
_TABLE = str.maketrans(_SIGNS)

# LaTeX's commands that stand for a sign or a name; those for spacing and size stand for nothing.
_COMMANDS = {
    **dict.fromkeys(("times", "cdot", "ast"), "*"),
    **dict.fromkeys(("le", "leq", "leqslant"), "<="),
    **dict.fromkeys(("ge", "geq", "geqslant"), ">="),
    **dict.fromkeys(("ne", "neq"), " != "),
    **dict.fromkeys(("lvert", "rvert", "vert"), "|"),
    **dict.fromkeys(("cup", "lor"), " or "),
    **dict.fromkeys(("emptyset", "varnothing"), "∅"),
    **dict.fromkeys(("rightarrow", "Rightarrow", "implies", "to"), "⇒"),
    **dict.fromkeys(("ldots", "cdots", "dots"), "..."),
    **dict.fromkeys(("displaystyle", "quad", "qquad", "limits"), " "),
    **dict.fromkeys(("left", "right"), ""),
    **{"div": "÷", "lt": "<", "gt": ">", "pi": "π", "pm": "±", "infty": "∞", "in": "∈"},
    **{"circ": "∘", "approx": "≈"},
    **{name: name for name in ("log", "ln", "det", "sin", "cos", "tan")},
}
_CASES = re.compile(r"\\begin\s*\{(?:cases|aligned|array)\}(?:\{[lcr]*\})?(.*?)\\end\s*\{\w+\}")
_MATRIX = re.compile(r"\\begin\s*\{([pb])matrix\}(.*?)\\end\s*\{\1matrix\}", re.DOTALL)
_INNERMOST = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)"), r"((\1)/(\2))"),
    (re.compile(r"\\sqrt\s*\[3\]\s*\{([^{}]*)\}"), r"cbrt(\1)"),
    (re.compile(r"\\sqrt\s*\[(\d+)\]\s*\{([^{}]*)\}"), r"((\2)^(1/(\1)))"),
    (re.compile(r"\\sqrt\s*\{([^{}]*)\}"), r"sqrt(\1)"),
    (re.compile(r"\\sqrt\s*(\d)"), r"sqrt(\1)"),
    (
        re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathbb|mbox|operatorname)\s*\{([^{}\\]*)\}"),
        r" \1 ",
    ),
    (re.compile(r"\^\s*\{([^{}]*)\}"), r"^(\1)"),
    (re.compile(r"_\s*\{(\d+)\}"), r"_\1"),
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
# A mixed number in LaTeX, 2\frac{1}{2}.
_MIXED = re.compile(r"(?<![\d.^{])(\d+)\s*\\[dt]?frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")
# A base in braces, or one digit: in LaTeX \log_28 is the logarithm of 8. \log_10 is meant as 10.
_BASE = re.compile(r"\\log\s*_\s*(?:\{(\d+)\}|(10(?!\d)|\d))")
# Spaces mean nothing in LaTeX: 1/2 x is the same as 1/2x.
_SPACED_FRACTION = re.compile(r"(\d/\d+) +(?=[A-Za-z(\\])")
# A fraction with U+2044, the fraction slash: 1⁄2 or 2 1⁄2.
_BAR = re.compile(r"(?<![\d.])(?:(\d+) )?(\d+)\u2044(\d+)(?!\d)")
# Letters and digits that Unicode has for mathematics: 𝑥, 𝟐.
_ITALICS = re.compile("[\U0001d400-\U0001d7ff]+")
_MAX_NESTED = 12


def plain(text: str) -> str:
    """Convert a question to plain notation; words stay, runs of white space become one space."""
    text = _ITALICS.sub(lambda match: normalize("NFKC", match[0]), text)
    text = _SUPERSCRIPT.sub(_raised, re.sub(r"(?<![\w)\]])³√", "∛", text))
    text = _BAR.sub(lambda m: _fraction(*m.groups()), text)
    text = re.sub(r"log([₀-₉]+)", lambda m: f"log_{m[1].translate(_SUBSCRIPTS)} ", text)
    if any(sign in text for sign in "\\{$"):
        text = _from_latex(text)
    text = re.sub(r"\blg(?=[ \d(a-z])", "log_10 ", text)
    text = re.sub(r"(?<=\d)·(?=\d)", "•", text)  # times, or a decimal point: not read
    text = text.replace("**", "^").translate(_TABLE)
    text = re.sub(r"(?<=[A-Za-z])(?=π)|(?<=π)(?=[A-Za-z])", " ", text).replace("π", "pi")
    text = _without_delimiters(text)
    text = re.sub(r"(?<=\S) *\n+ *(?=\S)", " ; ", text)  # equations, one a line
    text = re.sub(r"(?<=[:.;,?]) ;(?= )", "", text)
    return re.sub(r"(?<=[\w)]) (?=[:,;?])", "", " ".join(text.split()))


def _fraction(whole: str | None, over: str, under: str) -> str:
    """A fraction or mixed number in brackets. The parser refuses 2 5/3: it may be a product."""
    if whole is None:
        return f"(({over})/({under}))"
    return f"({whole}+({over})/({under}))" if int(over) < int(under) else f"{whole} {over}/{under}"


def _raised(match: re.Match[str]) -> str:
    return "^(" + "".join(_SUPERSCRIPTS[sign] for sign in match[0]) + ")"


def _from_latex(text: str) -> str:
    text = _MATRIX.sub(_rows, text)
    text = _CASES.sub(lambda m: m[1].replace("\\\\", " ; ").replace("&", " "), text)
    text = re.sub(r"\\[,;:! ]", " ", text)
    text = re.sub(r"\\[()\[\]]", "$", text)
    text = re.sub(r"(\\[A-Za-z]+)(?=\\sqrt)", r"\1 ", text)  # \cdot\sqrt{2}
    text = _BASE.sub(r"\\log_\1\2 ", text)
    text = text.replace("\\%", "%").replace("\\$", "\\dollar ").replace("{,}", ",")
    text = _MIXED.sub(lambda m: _fraction(m[1], m[2] or m[3], m[4] or m[5]), text)
    text = _SPACED_FRACTION.sub(r"\1", text)
    for _ in range(_MAX_NESTED):  # from the innermost braces outwards
        before = text
        for pattern, new in _INNERMOST:
            text = pattern.sub(new, text)
        if text == before:
            break
    return _COMMAND.sub(lambda m: _COMMANDS.get(m[1], m[0]), text)


def _rows(match: re.Match[str]) -> str:
    """A matrix as [[1, 2], [3, 4]]."""
    rows = [row.split("&") for row in match[2].split("\\\\") if row.strip()]
    return f"[{', '.join('[' + ', '.join(map(str.strip, row)) + ']' for row in rows)}]"


def _without_delimiters(text: str) -> str:
    """Remove LaTeX's dollar signs, but not those of amounts of money."""
    text = text.replace("$$", "$")
    return text.replace("$", " ") if text.count("$") % 2 == 0 and not _money(text) else text


def _money(text: str) -> bool:
    """Whether dollar signs stand for money: there is prose between two of them."""
    pieces = re.sub("sqrt|cbrt", "", text).split("$")[1::2]
    return any(re.search(r"[A-Za-z]{4,}", piece) for piece in pieces)
