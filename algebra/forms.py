"""The forms of exercises in English: patterns of whole questions, in plain notation.

The first that matches and whose builder takes its parts decides. In each, the longer of two
words that begin alike comes first.
"""

from __future__ import annotations

from algebra import builders as build
from algebra import units
from algebra.builders import Builder
from algebra.phrases import NUMBER, POINT

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
    r"(?:system of linear equations|system of equations|systems of equations|pair of equations"
    r"|equations|equation|inequalities|inequality|linear system|system)\b"
)
_LIST = rf"(?P<ns>{NUMBER}(?: ?,? (?:and )?|, ?){NUMBER}(?:(?:, ?(?:and )?| and ){NUMBER})*)"
TERMS = rf"(?P<ns>{NUMBER}(?:, ?{NUMBER}){{2,14}})(?:,? ?\.\.\.,?|,)?"
_FAMILY = r"(?:(?P<family>arithmetic|geometric) )?"
_SERIES = r"(?:sequence|progression|series|pattern|number sequence|list)"
_NTH = r"(?P<n>\d{1,6})(?:st|nd|rd|th)"
_MONEY = r"(?P<u>[$€£¥])?"
_POINTS = rf"(?:the )?(?:points? )?(?P<p>{POINT}) (?:and|to) (?:the point )?(?P<q>{POINT})"


def _numbered(name: str) -> str:
    return rf"(?P<{name}>{NUMBER})"


A, B, D = (_numbered(name) for name in "abd")
_PERCENT = r" ?(?:%|percent|per cent)"

ENGLISH: list[tuple[str, Builder]] = [
    # points and lines
    (
        rf"{_WHAT} (?:the )?(?:slope|gradient) of (?:the |a )?(?:straight )?line"
        rf" (?:through|passing through|that passes through|which passes through|joining|connecting"
        rf"|that joins|that goes through|containing|between) {_POINTS}",
        build.points("slope"),
    ),
    (rf"{_WHAT} (?:the )?(?:slope|gradient) (?:between|from) {_POINTS}", build.points("slope")),
    (
        rf"{_WHAT} (?:the )?equation of (?:the |a )?(?:straight )?line (?:through|passing through"
        rf"|that passes through|joining|connecting|that joins) {_POINTS}",
        build.points("line"),
    ),
    (rf"{_WHAT} (?:the )?distance (?:between|from) {_POINTS}", build.points("distance")),
    (
        rf"{_WHAT} (?:the )?midpoint (?:of|between)(?: the (?:line )?segment)?"
        rf"(?: joining| between| connecting| with endpoints)? ?{_POINTS}",
        build.points("midpoint"),
    ),
    (
        rf"{_WHAT} (?:the )?(?:slope|gradient) of (?:the )?(?:line )?(?P<eq>[^,?]+=[^,?]+)",
        build.line("slope_of"),
    ),
    (
        rf"{_WHAT} (?:the )?y-intercept of (?:the )?(?:line |graph of )?(?P<eq>[^,?]+=[^,?]+)",
        build.line("intercept_of"),
    ),
    # functions and values
    (
        rf"{_IF} (?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<body>.+?)[,;.]? (?:then )?{_WHAT}"
        r" (?P<f2>[fgh]) ?\((?P<at>[^()]+)\)",
        build.function,
    ),
    (
        rf"{_WHAT} (?P<f2>[fgh]) ?\((?P<at>[^()]+)\),? (?:if|when|given|given that|for|where)"
        r" (?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<body>.+)",
        build.function,
    ),
    (
        rf"(?:{_WHAT}|simplify and evaluate) (?:the )?(?:expression )?(?P<e>[^=]+?),? (?:for|when"
        r"|if|at|where|given|given that|with) (?P<eqs>[^=]*=.+)",
        build.substitute,
    ),
    (rf"{_IF} (?P<eqs>[^=]*=.+?)[,;]? (?:then )?{_WHAT} (?P<e>[^=]+)", build.substitute),
    (rf"(?P<eqs>[^=]*=.+?)\. {_WHAT} (?P<e>[^=]+)", build.substitute),
    # percentages
    (rf"(?:{_WHAT} )?{A}{_PERCENT} of {_MONEY}{B}", build.numbers("percent_of")),
    (
        rf"(?:{_WHAT} )?{_MONEY}{A} (?:increased by|plus an increase of) {B}{_PERCENT}",
        build.numbers("percent_change", 1),
    ),
    (rf"increase {_MONEY}{A} by {B}{_PERCENT}", build.numbers("percent_change", 1)),
    (
        rf"(?:{_WHAT} )?{_MONEY}{A} (?:decreased|reduced) by {B}{_PERCENT}",
        build.numbers("percent_change", -1),
    ),
    (rf"(?:decrease|reduce) {_MONEY}{A} by {B}{_PERCENT}", build.numbers("percent_change", -1)),
    (rf"what (?:percent|percentage|per cent) is {A} of {B}", build.numbers("share")),
    (rf"what (?:percent|percentage|per cent) of {B} is {A}", build.numbers("share")),
    (rf"{A} is what (?:percent|percentage|per cent) of {B}", build.numbers("share")),
    (rf"(?:express|write) {A} as a (?:percent|percentage) of {B}", build.numbers("share")),
    (rf"{A} is {B}{_PERCENT} of (?:what|what number|which number)", build.numbers("base")),
    (
        rf"{_WHAT} (?:the )?(?:percent|percentage) (?P<w>change|increase|decrease) from"
        rf" {_MONEY}{A} to [$€£¥]?{B}",
        build.change,
    ),
    # whole numbers and lists
    (
        rf"(?:{_WHAT} )?(?:the )?(?:gcd|gcf|hcf|greatest common divisor|greatest common factor"
        rf"|highest common factor|largest common divisor)(?: \((?:gcd|gcf|hcf)\))? ?"
        rf"(?:of|between)?(?: the numbers)? ?\(?{_LIST}\)?",
        build.whole_list("gcd"),
    ),
    (
        rf"(?:{_WHAT} )?(?:the )?(?:lcm|least common multiple|lowest common multiple"
        rf"|smallest common multiple)(?: \(lcm\))? ?(?:of|between)?(?: the numbers)? ?"
        rf"\(?{_LIST}\)?",
        build.whole_list("lcm"),
    ),
    (
        rf"{_WHAT} (?:the )?(?:average|mean|arithmetic mean)"
        rf" of(?: the numbers|:)?:? ?{_LIST}",
        build.list_("mean"),
    ),
    (rf"{_WHAT} (?:the )?median of(?: the numbers|:)?:? ?{_LIST}", build.list_("median")),
    (
        r"(?:what is|find|give|write|determine) (?:the )?prime factori[sz]ation of (?P<ns>\d{1,9})",
        build.whole_list("primes"),
    ),
    (r"simplify (?:the )?ratio:? (?P<a>\d{1,9}) ?: ?(?P<b>\d{1,9})", build.ratio),
    # sequences
    (
        rf"(?:what is|what's|find|determine|write|give) (?:the )?next (?:term|number)"
        rf"(?: in| of)(?: the| this)?(?: following)? ?{_FAMILY}{_SERIES}:? ?{TERMS}",
        build.term,
    ),
    (rf"(?:what|which number) comes next(?: in (?:the|this) {_SERIES})?:? ?{TERMS}", build.term),
    (
        rf"(?:what is|find|determine|calculate) (?:the )?{_NTH} term(?: in| of)(?: the| this)?"
        rf"(?: following)? ?{_FAMILY}{_SERIES}:? ?{TERMS}",
        build.term,
    ),
    (
        rf"a sequence goes on by equal steps:? {TERMS}\.? what is its term number (?P<n>\d+)",
        lambda **parts: build.term(**parts, family="arithmetic"),
    ),
    (
        rf"(?:what is|find|determine|write) (?:the |a formula for the )?(?:nth|n-th|general) term"
        rf"(?: in| of)(?: the| this)? ?{_FAMILY}{_SERIES}:? ?{TERMS}",
        build.general_term,
    ),
    (
        rf"(?:what is|find|determine) (?:the )?common (?P<what>difference|ratio)(?: in| of)"
        rf"(?: the| this)? ?(?:arithmetic |geometric )?{_SERIES}:? ?{TERMS}",
        build.step,
    ),
    (
        rf"(?:find|what is|determine|calculate) (?:the )?{_NTH} term of an? "
        rf"(?P<family>arithmetic|geometric) (?:sequence|progression) (?:with|whose) (?:a )?first"
        rf" term(?: is)? {A} and (?:a )?common (?:difference|ratio)(?: is| of)? {D}",
        build.described,
    ),
    (
        r"(?:what is|find|calculate) (?:the )?sum of (?:the )?first (?P<n>\d{1,7}) (?:positive "
        r"integers|natural numbers|positive whole numbers|counting numbers)",
        build.numbers("sum_to"),
    ),
    # units
    (
        rf"(?:convert|change|express) {A} ?(?P<f>{units.PATTERN}) (?:to|into|in) (?:a )?"
        rf"(?P<t>{units.PATTERN})",
        build.convert,
    ),
    (
        rf"how many (?P<t>{units.PATTERN}) (?:are|are there|is) (?:in|equal to) {A} ?"
        rf"(?P<f>{units.PATTERN})",
        build.convert,
    ),
    (rf"(?:what is )?{A} ?(?P<f>{units.PATTERN}) in (?P<t>{units.PATTERN})", build.convert),
    (rf"{A} ?(?P<f>{units.PATTERN}) ?= ?(?:\?|_+)? ?(?P<t>{units.PATTERN})", build.convert),
    # forms of numbers
    (
        r"(?:write|convert|express|change) (?P<e>.+?) (?:as|to|into) (?:a |an )?"
        r"(?:fraction|simplified fraction|fraction in lowest terms|fraction in simplest form)",
        build.form_of_number("as_fraction"),
    ),
    (
        r"(?:write|convert|express|change) (?P<e>.+?) (?:as|to|into) (?:a )?decimal",
        build.form_of_number("as_decimal"),
    ),
    (
        r"(?:write|convert|express|change) (?P<e>.+?) (?:as|to|into) (?:a )?(?:percent|percentage)",
        build.form_of_number("as_percent"),
    ),
    (
        r"(?:simplify|reduce)(?: the fraction)? (?P<e>\d{1,9} ?/ ?\d{1,9})"
        r"(?: to (?:its )?(?:lowest terms|simplest form))?",
        build.form_of_number("as_fraction"),
    ),
    # equations
    (
        rf"(?:solve|find|determine|what are|what is) (?:all )?(?:the )?(?:real )?(?:solution|"
        rf"solutions|root|roots|solution set)(?: of| to) (?:{_EQUATIONS}:? )?(?P<eqs>.+)",
        build.solve,
    ),
    (
        r"(?:find|determine|what are) (?:all )?(?:the )?(?:real )?(?:roots|zeros|zeroes)(?: of) "
        r"(?:the )?(?:polynomial |quadratic |function |equation |quadratic equation )?(?P<e>.+)",
        build.roots,
    ),
    (
        rf"(?:solve for {_V}(?: in| from| if| when| given that)?[:,]? "
        rf"|find {_V2}(?:[:,]|,? (?:if|when|given that|given|such that|for which|where|from)) )"
        rf"(?:{_EQUATIONS}:? ?)?(?P<eqs>.+)",
        build.solve,
    ),
    (rf"solve (?:{_EQUATIONS}:? ?)?(?P<eqs>.+?),? for {_V}", build.solve),
    (rf"solve:? ?(?:{_EQUATIONS}:? ?)?(?P<eqs>.+)", build.solve),
    (
        rf"(?:what is|what's|find|determine|calculate) (?:the )?(?:value|values) of {_V}"
        rf"(?: if| when| given that| given| in| for which| such that| that satisfies"
        rf"| that satisfy| in the equation)[:,]? (?P<eqs>.+)",
        build.solve,
    ),
    (rf"what is {_V} (?:if|when|given that|given|in) (?P<eqs>.+)", build.solve),
    (
        rf"(?:what|which|for what|for which) (?:value|values) of {_V} (?:satisfies|satisfy|makes?"
        rf"|is|are|solves)(?: (?:the )?equation)? (?P<eqs>.+?)(?: true)?",
        build.solve,
    ),
    (
        rf"{_IF} (?P<eqs>.+?)[,;.]? (?:then )?(?:what is|what's|what are|find|solve for|determine"
        rf"|calculate|what must) (?:the )?(?:value of |values of )?{_V}(?: equal to| equal| be)?",
        build.solve,
    ),
    (rf"{_IF} (?P<eqs>.+?)[,;.]? (?:then )?{_V} ?= ?\??", build.solve),
    (rf"(?:{_EQUATIONS}:? )?(?P<eqs>[^?]+?)[,;.]? (?:solve for|find|what is) {_V}", build.solve),
    (rf"(?P<eqs>[^?]+?)[,;.] ?{_V} ?= ?\?", build.solve),
    (
        rf"{_IF} (?P<eqs>.+?)[,;.]? (?:then )?{_WHAT}(?: the value of)?(?: the expression)?"
        rf" (?P<e>[^=]+)",
        build.wanted,
    ),
    (rf"{_WHAT} (?P<e>[^=]+?),? (?:if|given that|given|when) (?P<eqs>[^=]*=.+)", build.wanted),
    # rewriting
    (
        r"(?:expand and simplify|expand the brackets|expand|multiply out)\b(?: the)?(?: expression"
        r"| product| following)?:? ?(?P<e>.+)",
        build.rewrite("expand"),
    ),
    (
        r"(?:factor|factorise|factorize)\b(?: completely| fully)?(?: the)?(?: following)?(?: "
        r"expression| polynomial| quadratic| trinomial)?:? ?(?P<e>.+?)(?: completely| fully)?",
        build.rewrite("factor"),
    ),
    (
        r"(?:simplify|combine like terms in|combine like terms)\b(?: the)?(?: following)?(?: "
        r"expression| fraction)?:? ?(?P<e>.+?)",
        build.rewrite("simplify"),
    ),
    # arithmetic
    (
        rf"(?:{_WHAT}|solve|simplify)(?: the)?(?: following)?(?: result of| expression)?:? ?"
        r"(?P<e>[^=]+?)(?: ?= ?\??)?",
        build.evaluate,
    ),
    (r"(?P<e>[^=]+?) ?= ?(?:\?|_+)?", build.evaluate),
    (r"(?P<eqs>[^?]*[=<>][^?]*)", build.solve),
]
