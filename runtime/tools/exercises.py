"""Which questions are exercises, and what they ask.

A question is recognized if the whole of it has one of the forms below and each of its expressions
is read without doubt. One word more ("explain why", a name, a unit) and it is the model's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from runtime.tools import units
from runtime.tools.notation import plain, without_separators
from runtime.tools.phrases import (
    COURTESIES,
    COURTESIES_ZH,
    HAN,
    NUMBER,
    POINT,
    SPOKEN,
    integers,
    listed_numbers,
    number,
    relations,
    spoken,
    without_courtesies,
)
from runtime.tools.syntax import (
    FUNCTIONS,
    PRODUCTS,
    Node,
    Relation,
    UnclearError,
    names,
    parse,
    parse_relation,
)

MAX_CHARS = 400


@dataclass(frozen=True)
class Exercise:
    """What is to be computed.

    Attributes:
        kind: the name of a function in `working`.
        given: what it is given.
        chinese: the answer is to be in Chinese.
        text: the question in plain notation.
    """

    kind: str
    given: tuple[Any, ...]
    chinese: bool = False
    text: str = ""


def recognize(question: str) -> Exercise | None:
    """The exercise that a question is, or None."""
    if len(question) > MAX_CHARS:
        return None
    text = plain(question)
    if len(text) > 2 * MAX_CHARS:
        return None
    chinese = HAN.search(text) is not None
    text = without_courtesies(text)
    for pattern, build in FORMS:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        try:
            kind, *given = build(**{k: v for k, v in match.groupdict().items() if v is not None})
        except (UnclearError, ArithmeticError):
            continue
        return Exercise(kind, tuple(given), chinese, text)
    return None


Built = tuple[Any, ...]


# --- builders: from the parts of a form to (kind, given ...) -----------------------


def _expression(text: str) -> Node:
    return parse(without_separators(spoken(text)))


def _with_variable(text: str) -> Node:
    node = _expression(text)
    if not names(node):
        raise UnclearError("no variable")
    return node


def _solve(eqs: str, v: str = "", v2: str = "") -> Built:
    found = relations(eqs)
    asked = tuple(re.findall(r"[A-Za-z]", re.sub(r"\band\b", ",", v or v2)))
    variables = set().union(*(names(side) for rel in found for side in rel.sides))
    if not variables or not variables.issuperset(asked) or "e" in asked:
        raise UnclearError("nothing to solve for")
    if len(found) > 1 and not asked:
        asked = tuple(sorted(variables))
    if not asked:
        if len(variables) > 1:
            raise UnclearError("which variable is asked for?")
        asked = tuple(variables)
    return "solve", found, asked


def _roots(e: str, v: str = "") -> Built:
    if any(sign in e for sign in "<>="):
        return _solve(e, v)
    node = _with_variable(e)
    return "solve", (Relation((node, parse("0")), ("=",), f"{e.strip()} = 0"),), tuple(names(node))


def _wanted(eqs: str, e: str) -> Built:
    """If 2x + 3 = 11, what is 3x - 1?"""
    found = relations(eqs)
    if not all(relation.is_equation for relation in found):
        raise UnclearError("a value under an inequality")
    target = _with_variable(e)
    variables = set().union(*(names(side) for rel in found for side in rel.sides))
    if not names(target) <= variables:
        raise UnclearError("a variable that nothing is said about")
    return "wanted", found, target, spoken(e).strip()


def _substitute(e: str, eqs: str) -> Built:
    """Evaluate 3x^2 - 1 for x = 3."""
    found = relations(eqs)
    node = _with_variable(e)
    pairs = []
    for relation in found:
        left, right = relation.sides[0], relation.sides[-1]
        if not (relation.is_equation and len(names(left)) == 1 and not names(right)):
            raise UnclearError("not a variable's value")
        (name,) = names(left)
        if parse(name) != left:
            raise UnclearError("not a variable's value")
        pairs.append((name, right))
    if {name for name, _ in pairs} != names(node) or len(pairs) != len(names(node)):
        raise UnclearError("values of other variables")
    return "substitute", node, tuple(pairs), spoken(e).strip()


def _function(f: str, x: str, body: str, at: str, f2: str) -> Built:
    """If f(x) = 2x - 1, what is f(3)?"""
    node = _expression(body)
    value = _expression(at)
    if f != f2 or names(node) - {x} or names(value):
        raise UnclearError("another function")
    return "function", f, x, node, value, at.strip()


def _evaluate(e: str) -> Built:
    text = without_separators(spoken(e))
    if text.endswith("!") and not re.fullmatch(r"\d+!", text):
        raise UnclearError("a factorial, or the end of the sentence")
    node = parse(text)
    if names(node):
        raise UnclearError("a variable")
    if re.fullmatch(r"[\d.]+|\d+ *-[ \d-]+", text.strip()):  # a number alone, a date, a phone
        raise UnclearError("nothing to compute")
    return "evaluate", node, " ".join(text.split())


def _rewrite(kind: str) -> Callable[..., Built]:
    def build(e: str) -> Built:
        text = without_separators(spoken(e))
        node = parse(text)
        if not names(node):
            if kind == "simplify":
                return _evaluate(e)
            raise UnclearError("a number")
        return kind, node, " ".join(text.split())

    return build


def _numbers(kind: str, *fixed: Any) -> Callable[..., Built]:
    """A form whose parts are numbers, in the order of their names."""

    def build(**parts: str) -> Built:
        unit = parts.pop("u", "").strip()
        values = tuple(number(parts[name]) for name in sorted(parts))
        return (kind, *fixed, *values, unit)

    return build


def _list(kind: str) -> Callable[..., Built]:
    def build(ns: str) -> Built:
        return kind, listed_numbers(ns)

    return build


def _whole_list(kind: str) -> Callable[..., Built]:
    def build(ns: str) -> Built:
        return kind, integers(ns)

    return build


def _term(ns: str, n: str = "", family: str = "") -> Built:
    if n and not 0 < int(n) <= 10**6:
        raise UnclearError("no such term")
    return "term", listed_numbers(ns.strip(" .,")), int(n) if n else None, _family(family)


def _general_term(ns: str, family: str = "") -> Built:
    return "general_term", listed_numbers(ns.strip(" .,")), _family(family)


def _step(ns: str, what: str) -> Built:
    return "step", listed_numbers(ns.strip(" .,")), _family(what)


def _described(family: str, a: str, d: str, n: str) -> Built:
    if not 0 < int(n) <= 10**6:
        raise UnclearError("no such term")
    return "described_term", _family(family), number(a), number(d), int(n)


def _family(text: str) -> str:
    if text in ("等差", "公差"):
        return "arithmetic"
    if text in ("等比", "公比"):
        return "geometric"
    text = text.lower()
    return {"difference": "arithmetic", "ratio": "geometric"}.get(text, text)


def _convert(a: str, f: str, t: str) -> Built:
    return "convert", number(a), units.find(f), units.find(t)


def _points(kind: str) -> Callable[..., Built]:
    def build(p: str, q: str) -> Built:
        found = []
        for point in (p, q):
            x, y = point.strip("() ").split(",")
            found.append((parse(x), parse(y)))
        if any(names(part) for point in found for part in point):
            raise UnclearError("points with variables")
        return kind, *found

    return build


def _line(kind: str) -> Callable[..., Built]:
    def build(eq: str) -> Built:
        relation = parse_relation(eq)
        if not relation.is_equation or set().union(*map(names, relation.sides)) != {"x", "y"}:
            raise UnclearError("no line")
        return kind, relation

    return build


def _ratio(a: str, b: str) -> Built:
    return "ratio", *integers(f"{a}, {b}")


def _form_of_number(kind: str) -> Callable[..., Built]:
    def build(e: str) -> Built:
        text = without_separators(spoken(e)).strip()
        percent = text.endswith("%")
        node = parse(text.rstrip("% "))
        if names(node):
            raise UnclearError("a variable")
        return kind, node, percent, text

    return build


# --- forms -------------------------------------------------------------------------

_V = r"(?P<v>[A-Za-z](?:(?:, ?(?:and )?| and )[A-Za-z])*)"
_V2 = _V.replace("<v>", "<v2>")
_WHAT = (
    r"(?:what is|what's|what are|find|calculate|compute|work out|determine|evaluate|how much is"
    r"|give|state)(?: the value of)?"
)
_IF = r"(?:if|given that|given|suppose|suppose that|when|let)"
_EQUATIONS = (
    r"(?:the )?(?:following )?(?:simultaneous |linear |quadratic |cubic |rational |radical "
    r"|exponential |logarithmic |absolute value |polynomial )?"
    r"(?:equation|equations|inequality|inequalities|system|system of equations"
    r"|system of linear equations|linear system|systems of equations|pair of equations)"
)
_LIST = rf"(?P<ns>{NUMBER}(?: ?,? (?:and )?|, ?){NUMBER}(?:(?:, ?(?:and )?| and ){NUMBER})*)"
_LIST_ZH = rf"(?P<ns>{NUMBER}(?:(?:, ?| ?[和与及] ?) ?{NUMBER})+)"
_TERMS = rf"(?P<ns>{NUMBER}(?:, ?{NUMBER}){{2,14}})(?:,? ?\.\.\.,?|,)?"
_FAMILY = r"(?:(?P<family>arithmetic|geometric) )?"
_SERIES = r"(?:sequence|progression|series|pattern|number sequence|list)"
_NTH = r"(?P<n>\d{1,6})(?:st|nd|rd|th)"
_MONEY = r"(?P<u>[$€£¥])?"
_POINTS = rf"(?:the )?(?:points? )?(?P<p>{POINT}) (?:and|to) (?:the point )?(?P<q>{POINT})"


def _numbered(name: str) -> str:
    return rf"(?P<{name}>{NUMBER})"


_A, _B, _N, _D = (_numbered(name) for name in "abnd")
_PERCENT = r" ?(?:%|percent|per cent)"

_ENGLISH: list[tuple[str, Callable[..., Built]]] = [
    # points and lines
    (
        rf"{_WHAT} (?:the )?(?:slope|gradient) of (?:the |a )?(?:straight )?line"
        rf" (?:through|passing through|that passes through|which passes through|joining|connecting"
        rf"|that joins|that goes through|containing|between) {_POINTS}",
        _points("slope"),
    ),
    (rf"{_WHAT} (?:the )?(?:slope|gradient) (?:between|from) {_POINTS}", _points("slope")),
    (
        rf"{_WHAT} (?:the )?equation of (?:the |a )?(?:straight )?line (?:through|passing through"
        rf"|that passes through|joining|connecting|that joins) {_POINTS}",
        _points("line"),
    ),
    (rf"{_WHAT} (?:the )?distance (?:between|from) {_POINTS}", _points("distance")),
    (
        rf"{_WHAT} (?:the )?midpoint (?:of|between)(?: the (?:line )?segment)?"
        rf"(?: joining| between| connecting| with endpoints)? ?{_POINTS}",
        _points("midpoint"),
    ),
    (
        rf"{_WHAT} (?:the )?(?:slope|gradient) of (?:the )?(?:line )?(?P<eq>[^,?]+=[^,?]+)",
        _line("slope_of"),
    ),
    (
        rf"{_WHAT} (?:the )?y-intercept of (?:the )?(?:line |graph of )?(?P<eq>[^,?]+=[^,?]+)",
        _line("intercept_of"),
    ),
    # functions and values
    (
        rf"{_IF} (?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<body>.+?)[,;.]? (?:then )?{_WHAT}"
        r" (?P<f2>[fgh]) ?\((?P<at>[^()]+)\)",
        _function,
    ),
    (
        rf"{_WHAT} (?P<f2>[fgh]) ?\((?P<at>[^()]+)\),? (?:if|when|given|given that|for|where)"
        r" (?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<body>.+)",
        _function,
    ),
    (
        rf"(?:{_WHAT}|simplify and evaluate) (?:the )?(?:expression )?(?P<e>[^=]+?),? (?:for|when"
        r"|if|at|where|given|given that|with) (?P<eqs>[^=]*=.+)",
        _substitute,
    ),
    (rf"{_IF} (?P<eqs>[^=]*=.+?)[,;]? (?:then )?{_WHAT} (?P<e>[^=]+)", _substitute),
    (rf"(?P<eqs>[^=]*=.+?)\. {_WHAT} (?P<e>[^=]+)", _substitute),
    # percentages
    (rf"(?:{_WHAT} )?{_A}{_PERCENT} of {_MONEY}{_B}", _numbers("percent_of")),
    (
        rf"(?:{_WHAT} )?{_MONEY}{_A} (?:increased by|plus an increase of) {_B}{_PERCENT}",
        _numbers("percent_change", 1),
    ),
    (rf"increase {_MONEY}{_A} by {_B}{_PERCENT}", _numbers("percent_change", 1)),
    (
        rf"(?:{_WHAT} )?{_MONEY}{_A} (?:decreased|reduced) by {_B}{_PERCENT}",
        _numbers("percent_change", -1),
    ),
    (rf"(?:decrease|reduce) {_MONEY}{_A} by {_B}{_PERCENT}", _numbers("percent_change", -1)),
    (rf"what (?:percent|percentage|per cent) is {_A} of {_B}", _numbers("share")),
    (rf"what (?:percent|percentage|per cent) of {_B} is {_A}", _numbers("share")),
    (rf"{_A} is what (?:percent|percentage|per cent) of {_B}", _numbers("share")),
    (rf"(?:express|write) {_A} as a (?:percent|percentage) of {_B}", _numbers("share")),
    (rf"{_A} is {_B}{_PERCENT} of (?:what|what number|which number)", _numbers("base")),
    (
        rf"{_WHAT} (?:the )?(?:percent|percentage) (?:change|increase|decrease) from"
        rf" {_MONEY}{_A} to [$€£¥]?{_B}",
        _numbers("change"),
    ),
    # whole numbers and lists
    (
        rf"(?:{_WHAT} )?(?:the )?(?:gcd|gcf|hcf|greatest common divisor|greatest common factor"
        rf"|highest common factor|largest common divisor)(?: \((?:gcd|gcf|hcf)\))? ?"
        rf"(?:of|between)?(?: the numbers)? ?\(?{_LIST}\)?",
        _whole_list("gcd"),
    ),
    (
        rf"(?:{_WHAT} )?(?:the )?(?:lcm|least common multiple|lowest common multiple"
        rf"|smallest common multiple)(?: \(lcm\))? ?(?:of|between)?(?: the numbers)? ?"
        rf"\(?{_LIST}\)?",
        _whole_list("lcm"),
    ),
    (
        rf"{_WHAT} (?:the )?(?:average|mean|arithmetic mean)"
        rf" of(?: the numbers|:)?:? ?{_LIST}",
        _list("mean"),
    ),
    (rf"{_WHAT} (?:the )?median of(?: the numbers|:)?:? ?{_LIST}", _list("median")),
    (
        r"(?:what is|find|give|write|determine) (?:the )?prime factori[sz]ation of (?P<ns>\d{1,9})",
        _whole_list("primes"),
    ),
    (r"simplify (?:the )?ratio:? (?P<a>\d{1,9}) ?: ?(?P<b>\d{1,9})", _ratio),
    # sequences
    (
        rf"(?:what is|what's|find|determine|write|give) (?:the )?next (?:term|number)"
        rf"(?: in| of)(?: the| this)?(?: following)? ?{_FAMILY}{_SERIES}:? ?{_TERMS}",
        _term,
    ),
    (rf"(?:what|which number) comes next(?: in (?:the|this) {_SERIES})?:? ?{_TERMS}", _term),
    (
        rf"(?:what is|find|determine|calculate) (?:the )?{_NTH} term(?: in| of)(?: the| this)?"
        rf"(?: following)? ?{_FAMILY}{_SERIES}:? ?{_TERMS}",
        _term,
    ),
    (
        rf"a sequence goes on by equal steps:? {_TERMS}\.? what is its term number (?P<n>\d+)",
        lambda **parts: _term(**parts, family="arithmetic"),
    ),
    (
        rf"(?:what is|find|determine|write) (?:the |a formula for the )?(?:nth|n-th|general) term"
        rf"(?: in| of)(?: the| this)? ?{_FAMILY}{_SERIES}:? ?{_TERMS}",
        _general_term,
    ),
    (
        rf"(?:what is|find|determine) (?:the )?common (?P<what>difference|ratio)(?: in| of)"
        rf"(?: the| this)? ?(?:arithmetic |geometric )?{_SERIES}:? ?{_TERMS}",
        _step,
    ),
    (
        rf"(?:find|what is|determine|calculate) (?:the )?{_NTH} term of an? "
        rf"(?P<family>arithmetic|geometric) (?:sequence|progression) (?:with|whose) (?:a )?first"
        rf" term(?: is)? {_A} and (?:a )?common (?:difference|ratio)(?: is| of)? {_D}",
        _described,
    ),
    (
        r"(?:what is|find|calculate) (?:the )?sum of (?:the )?first (?P<n>\d{1,7}) (?:positive "
        r"integers|natural numbers|positive whole numbers|counting numbers)",
        _numbers("sum_to"),
    ),
    # units
    (
        rf"(?:convert|change|express) {_A} ?(?P<f>{units.PATTERN}) (?:to|into|in) (?:a )?"
        rf"(?P<t>{units.PATTERN})",
        _convert,
    ),
    (
        rf"how many (?P<t>{units.PATTERN}) (?:are|are there|is) (?:in|equal to) {_A} ?"
        rf"(?P<f>{units.PATTERN})",
        _convert,
    ),
    (rf"(?:what is )?{_A} ?(?P<f>{units.PATTERN}) in (?P<t>{units.PATTERN})", _convert),
    (rf"{_A} ?(?P<f>{units.PATTERN}) ?= ?(?:\?|_+)? ?(?P<t>{units.PATTERN})", _convert),
    # forms of numbers
    (
        r"(?:write|convert|express|change) (?P<e>.+?) (?:as|to|into) (?:a |an )?"
        r"(?:fraction|simplified fraction|fraction in lowest terms|fraction in simplest form)",
        _form_of_number("as_fraction"),
    ),
    (
        r"(?:write|convert|express|change) (?P<e>.+?) (?:as|to|into) (?:a )?decimal",
        _form_of_number("as_decimal"),
    ),
    (
        r"(?:write|convert|express|change) (?P<e>.+?) (?:as|to|into) (?:a )?(?:percent|percentage)",
        _form_of_number("as_percent"),
    ),
    (
        r"(?:simplify|reduce)(?: the fraction)? (?P<e>\d{1,9} ?/ ?\d{1,9})"
        r"(?: to (?:its )?(?:lowest terms|simplest form))?",
        _form_of_number("as_fraction"),
    ),
    # equations
    (
        rf"(?:solve|find|determine|what are|what is) (?:all )?(?:the )?(?:real )?(?:solution|"
        rf"solutions|root|roots|solution set)(?: of| to) (?:{_EQUATIONS}:? )?(?P<eqs>.+)",
        _solve,
    ),
    (
        r"(?:find|determine|what are) (?:all )?(?:the )?(?:real )?(?:roots|zeros|zeroes)(?: of) "
        r"(?:the )?(?:polynomial |quadratic |function |equation |quadratic equation )?(?P<e>.+)",
        _roots,
    ),
    (
        rf"(?:solve for {_V}(?: in| from| if| when| given that)?[:,]? "
        rf"|find {_V2}(?:[:,]|,? (?:if|when|given that|given|such that|for which|where|from)) )"
        rf"(?:{_EQUATIONS}:? ?)?(?P<eqs>.+)",
        _solve,
    ),
    (rf"solve (?:{_EQUATIONS}:? ?)?(?P<eqs>.+?),? for {_V}", _solve),
    (rf"solve:? ?(?:{_EQUATIONS}:? ?)?(?P<eqs>.+)", _solve),
    (
        rf"(?:what is|what's|find|determine|calculate) (?:the )?(?:value|values) of {_V}"
        rf"(?: if| when| given that| given| in| for which| such that| that satisfies"
        rf"| that satisfy| in the equation)[:,]? (?P<eqs>.+)",
        _solve,
    ),
    (rf"what is {_V} (?:if|when|given that|given|in) (?P<eqs>.+)", _solve),
    (
        rf"(?:what|which|for what|for which) (?:value|values) of {_V} (?:satisfies|satisfy|makes?"
        rf"|is|are|solves)(?: (?:the )?equation)? (?P<eqs>.+?)(?: true)?",
        _solve,
    ),
    (
        rf"{_IF} (?P<eqs>.+?)[,;.]? (?:then )?(?:what is|what's|what are|find|solve for|determine"
        rf"|calculate|what must) (?:the )?(?:value of |values of )?{_V}(?: equal to| equal| be)?",
        _solve,
    ),
    (rf"{_IF} (?P<eqs>.+?)[,;.]? (?:then )?{_V} ?= ?\??", _solve),
    (rf"(?:{_EQUATIONS}:? )?(?P<eqs>[^?]+?)[,;.]? (?:solve for|find|what is) {_V}", _solve),
    (rf"(?P<eqs>[^?]+?)[,;.] ?{_V} ?= ?\?", _solve),
    (
        rf"{_IF} (?P<eqs>.+?)[,;.]? (?:then )?{_WHAT}(?: the value of)?(?: the expression)?"
        rf" (?P<e>[^=]+)",
        _wanted,
    ),
    (rf"{_WHAT} (?P<e>[^=]+?),? (?:if|given that|given|when) (?P<eqs>[^=]*=.+)", _wanted),
    # rewriting
    (
        r"(?:expand|multiply out|expand and simplify|expand the brackets)(?: the)?(?: expression"
        r"| product| following)?:? ?(?P<e>.+)",
        _rewrite("expand"),
    ),
    (
        r"(?:factor|factorise|factorize)(?: completely| fully)?(?: the)?(?: following)?(?: "
        r"expression| polynomial| quadratic| trinomial)?:? ?(?P<e>.+?)(?: completely| fully)?",
        _rewrite("factor"),
    ),
    (
        r"(?:simplify|combine like terms in|combine like terms)(?: the)?(?: following)?(?: "
        r"expression| fraction)?:? ?(?P<e>.+?)",
        _rewrite("simplify"),
    ),
    # arithmetic
    (
        rf"(?:{_WHAT}|solve|simplify)(?: the)?(?: following)?(?: result of| expression)?:? ?"
        r"(?P<e>[^=]+?)(?: ?= ?\??)?",
        _evaluate,
    ),
    (r"(?P<e>[^=]+?) ?= ?(?:\?|_+)?", _evaluate),
    (r"(?P<eqs>[^?]*[=<>][^?]*)", _solve),
]

_NAME = r"(?P<v>[A-Za-z](?:(?:, ?| ?[和与] ?)[A-Za-z])*)"
_ASK = r"(?:是多少|等于多少|等于几|是几|的值是多少|的值|的值等于多少|为多少|多少)"
_GIVEN = r"(?:如果|若|已知|设|当)"

_CHINESE: list[tuple[str, Callable[..., Built]]] = [
    (
        rf"(?:求|计算)?(?:过|经过|通过|连接)?(?:点)? ?(?P<p>{POINT}) ?(?:和|与|,) ?(?:点)? ?"
        rf"(?P<q>{POINT}) ?(?:两点)?的?(?:直线)?的?斜率(?:是多少|为多少)?",
        _points("slope"),
    ),
    (
        rf"(?:求|计算)?(?:点)? ?(?P<p>{POINT}) ?(?:和|与|到|,) ?(?:点)? ?(?P<q>{POINT}) ?"
        r"(?:两点)?(?:之间)?的?(?:距离)(?:是多少|为多少)?",
        _points("distance"),
    ),
    (rf"(?:求|计算)? ?{_B} ?的 ?{_A}%{_ASK}?", _numbers("percent_of")),
    (rf"{_A} ?是 ?{_B} ?的百分之几", _numbers("share")),
    (rf"{_A} ?占 ?{_B} ?的百分之几", _numbers("share")),
    (rf"(?:把 ?)?{_A} ?增加 ?{_B}%(?:后)?{_ASK}?", _numbers("percent_change", 1)),
    (rf"(?:把 ?)?{_A} ?减少 ?{_B}%(?:后)?{_ASK}?", _numbers("percent_change", -1)),
    (
        rf"(?:求|计算)? ?{_LIST_ZH} ?的(?:最大公约数|最大公因数)(?:是多少|是几)?",
        _whole_list("gcd"),
    ),
    (rf"(?:求|计算)? ?{_LIST_ZH} ?的最小公倍数(?:是多少|是几)?", _whole_list("lcm")),
    (rf"(?:求|计算)? ?{_LIST_ZH} ?的平均数(?:是多少|是几)?", _list("mean")),
    (rf"(?:求)?(?:数列|等差数列|等比数列)[:, ]*{_TERMS} ?的下一项(?:是多少|是几)?", _term),
    (
        rf"(?:求)?(?P<family>等差|等比)?数列[:, ]*{_TERMS} ?的第 ?(?P<n>\d{{1,6}}) ?项"
        r"(?:是多少|是几)?",
        _term,
    ),
    (rf"(?:求)?(?:等差|等比)?数列[:, ]*{_TERMS} ?的(?P<what>公差|公比)(?:是多少)?", _step),
    (
        rf"(?:把 ?|将 ?)?{_A} ?(?P<f>{units.PATTERN}) ?(?:换算成|转换成|化成|转换为|换算为|等于多少"
        rf"|是多少|合多少) ?(?P<t>{units.PATTERN})",
        _convert,
    ),
    (
        rf"(?:当|若|如果|已知) ?(?P<eqs>[^=]*=.+?)(?:时)?[, ]+(?:则|那么)? ?(?:求|计算)?(?:代数式|式子)? ?"
        rf"(?P<e>[^=]+?) ?{_ASK}?",
        _substitute,
    ),
    (rf"{_GIVEN} ?(?P<eqs>.+?)[,;. ]+(?:则|那么|求|求出) ?{_NAME} ?(?:= ?\??|{_ASK})?", _solve),
    (
        rf"{_GIVEN} ?(?P<eqs>.+?)[,;. ]+(?:则|那么|求|求出)(?:代数式|式子)? ?(?P<e>[^=]+?) ?{_ASK}?",
        _wanted,
    ),
    (
        r"(?:求解|解|求)(?:下列|以下)?(?:关于 ?[a-z] ?的)?(?:一元一次|一元二次|二元一次|分式|无理)?"
        r"(?:方程组|方程|不等式组|不等式)(?:的解|的根)?[:, ]*(?P<eqs>[^\u4e00-\u9fff]+)",
        _solve,
    ),
    (
        r"(?:求)?(?:方程组|方程|不等式|一元二次方程) ?(?P<eqs>[^\u4e00-\u9fff]+?) ?的(?:解|根|解集)"
        r"(?:是什么|是多少|是)?",
        _solve,
    ),
    (rf"(?:求|求出) ?{_NAME}(?:的值)?[:, ]+(?P<eqs>[^\u4e00-\u9fff]+)", _solve),
    (rf"(?P<eqs>[^\u4e00-\u9fff]+?)[,;. ]+(?:求|则) ?{_NAME} ?(?:= ?\??|{_ASK})?", _solve),
    (r"(?:展开|乘开)[:, ]*(?P<e>.+)", _rewrite("expand")),
    (
        r"(?:因式分解|分解因式|把下式分解因式|分解下列因式)[:, ]*(?P<e>.+)",
        _rewrite("factor"),
    ),
    (r"(?:把|将) ?(?P<e>.+?) ?(?:因式分解|分解因式)", _rewrite("factor")),
    (r"(?:把|将) ?(?P<e>.+?) ?展开", _rewrite("expand")),
    (r"(?:化简|合并同类项)[:, ]*(?P<e>.+)", _rewrite("simplify")),
    (rf"(?:计算|求|求值|算一算|请计算)[:, ]*(?P<e>[^=]+?)(?: ?= ?\??| ?{_ASK})?", _evaluate),
    (rf"(?P<e>[^=]+?) ?{_ASK}", _evaluate),
]


FORMS = [(re.compile(pattern, re.IGNORECASE), build) for pattern, build in [*_ENGLISH, *_CHINESE]]


def vocabulary() -> tuple[frozenset[str], frozenset[str]]:
    """The words, in lower case, and the Chinese characters that exercises are made of."""
    sources = " ".join(pattern.pattern for pattern, _ in [*FORMS, *SPOKEN])
    sources = f"{sources} {COURTESIES} {COURTESIES_ZH} {' '.join(FUNCTIONS | PRODUCTS)} pi gcd lcm"
    return frozenset(_words(sources)), frozenset(HAN.findall(sources))


def _words(sources: str) -> Iterator[str]:
    for word in re.findall(r"(?<![\\<])[A-Za-z]{2,}", sources):
        yield word.lower()
        yield word.lower().removesuffix("s")
