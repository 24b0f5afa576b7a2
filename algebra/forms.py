"""The forms of exercises in English: patterns of whole questions, in plain notation.

The first that matches and whose builder takes its parts decides. In each, the longer of two
words that begin alike comes first.
"""

from __future__ import annotations

from algebra import builders as build
from algebra import units
from algebra.builders import Builder
from algebra.patterns import (
    EQUATIONS,
    FAMILY,
    IF,
    LIST,
    MONEY,
    NTH,
    PERCENT,
    POINTS,
    SERIES,
    TERMS,
    V2,
    WHAT,
    A,
    B,
    D,
    V,
)

ENGLISH: list[tuple[str, Builder]] = [
    # points and lines
    (
        rf"{WHAT} (?:the )?(?:slope|gradient) of (?:the |a )?(?:straight )?line"
        rf" (?:through|passing through|that passes through|which passes through|joining|connecting"
        rf"|that joins|that goes through|containing|between) {POINTS}",
        build.points("slope"),
    ),
    (rf"{WHAT} (?:the )?(?:slope|gradient) (?:between|from) {POINTS}", build.points("slope")),
    (
        rf"{WHAT} (?:the )?equation of (?:the |a )?(?:straight )?line (?:through|passing through"
        rf"|that passes through|joining|connecting|that joins) {POINTS}",
        build.points("line"),
    ),
    (rf"{WHAT} (?:the )?distance (?:between|from) {POINTS}", build.points("distance")),
    (
        rf"{WHAT} (?:the )?midpoint (?:of|between)(?: the (?:line )?segment)?"
        rf"(?: joining| between| connecting| with endpoints)? ?{POINTS}",
        build.points("midpoint"),
    ),
    (
        rf"{WHAT} (?:the )?(?:slope|gradient) of (?:the )?(?:line )?(?P<eq>[^,?]+=[^,?]+)",
        build.line("slope_of"),
    ),
    (
        rf"{WHAT} (?:the )?y-intercept of (?:the )?(?:line |graph of )?(?P<eq>[^,?]+=[^,?]+)",
        build.line("intercept_of"),
    ),
    # functions and values
    (
        rf"{IF} (?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<body>.+?)[,;.]? (?:then )?{WHAT}"
        r" (?P<f2>[fgh]) ?\((?P<at>[^()]+)\)",
        build.function,
    ),
    (
        rf"{WHAT} (?P<f2>[fgh]) ?\((?P<at>[^()]+)\),? (?:if|when|given|given that|for|where)"
        r" (?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<body>.+)",
        build.function,
    ),
    (
        rf"(?:{WHAT}|simplify and evaluate) (?:the )?(?:expression )?(?P<e>[^=]+?),? (?:for|when"
        r"|if|at|where|given|given that|with) (?P<eqs>[^=]*=.+)",
        build.substitute,
    ),
    (rf"{IF} (?P<eqs>[^=]*=.+?)[,;]? (?:then )?{WHAT} (?P<e>[^=]+)", build.substitute),
    (rf"(?P<eqs>[^=]*=.+?)\. {WHAT} (?P<e>[^=]+)", build.substitute),
    # percentages
    (rf"(?:{WHAT} )?{A}{PERCENT} of {MONEY}{B}", build.numbers("percent_of")),
    (
        rf"(?:{WHAT} )?{MONEY}{A} (?:increased by|plus an increase of) {B}{PERCENT}",
        build.numbers("percent_change", 1),
    ),
    (rf"increase {MONEY}{A} by {B}{PERCENT}", build.numbers("percent_change", 1)),
    (
        rf"(?:{WHAT} )?{MONEY}{A} (?:decreased|reduced) by {B}{PERCENT}",
        build.numbers("percent_change", -1),
    ),
    (rf"(?:decrease|reduce) {MONEY}{A} by {B}{PERCENT}", build.numbers("percent_change", -1)),
    (rf"what (?:percent|percentage|per cent) is {A} of {B}", build.numbers("share")),
    (rf"what (?:percent|percentage|per cent) of {B} is {A}", build.numbers("share")),
    (rf"{A} is what (?:percent|percentage|per cent) of {B}", build.numbers("share")),
    (rf"(?:express|write) {A} as a (?:percent|percentage) of {B}", build.numbers("share")),
    (rf"{A} is {B}{PERCENT} of (?:what|what number|which number)", build.numbers("base")),
    (
        rf"{WHAT} (?:the )?(?:percent|percentage) (?P<w>change|increase|decrease) from"
        rf" {MONEY}{A} to [$€£¥]?{B}",
        build.change,
    ),
    # whole numbers and lists
    (
        rf"(?:{WHAT} )?(?:the )?(?:gcd|gcf|hcf|greatest common divisor|greatest common factor"
        rf"|highest common factor|largest common divisor)(?: \((?:gcd|gcf|hcf)\))? ?"
        rf"(?:of|between)?(?: the numbers)? ?\(?{LIST}\)?",
        build.whole_list("gcd"),
    ),
    (
        rf"(?:{WHAT} )?(?:the )?(?:lcm|least common multiple|lowest common multiple"
        rf"|smallest common multiple)(?: \(lcm\))? ?(?:of|between)?(?: the numbers)? ?"
        rf"\(?{LIST}\)?",
        build.whole_list("lcm"),
    ),
    (
        rf"{WHAT} (?:the )?(?:average|mean|arithmetic mean)"
        rf" of(?: the numbers|:)?:? ?{LIST}",
        build.list_("mean"),
    ),
    (rf"{WHAT} (?:the )?median of(?: the numbers|:)?:? ?{LIST}", build.list_("median")),
    (
        r"(?:what is|find|give|write|determine) (?:the )?prime (?:factorization|factorisation) "
        r"of (?P<ns>\d{1,9})",
        build.whole_list("primes"),
    ),
    (r"simplify (?:the )?ratio:? (?P<a>\d{1,9}) ?: ?(?P<b>\d{1,9})", build.ratio),
    # sequences
    (
        rf"(?:what is|what's|find|determine|write|give) (?:the )?next (?:term|number)"
        rf"(?: in| of)(?: the| this)?(?: following)? ?{FAMILY}{SERIES}:? ?{TERMS}",
        build.term,
    ),
    (rf"(?:what|which number) comes next(?: in (?:the|this) {SERIES})?:? ?{TERMS}", build.term),
    (
        rf"(?:what is|find|determine|calculate) (?:the )?{NTH} term(?: in| of)(?: the| this)?"
        rf"(?: following)? ?{FAMILY}{SERIES}:? ?{TERMS}",
        build.term,
    ),
    (
        rf"a sequence goes on by equal steps:? {TERMS}\.? what is its term number (?P<n>\d+)",
        lambda **parts: build.term(**parts, family="arithmetic"),
    ),
    (
        rf"(?:what is|find|determine|write) (?:the |a formula for the )?(?:nth|n-th|general) term"
        rf"(?: in| of)(?: the| this)? ?{FAMILY}{SERIES}:? ?{TERMS}",
        build.general_term,
    ),
    (
        rf"(?:what is|find|determine) (?:the )?common (?P<what>difference|ratio)(?: in| of)"
        rf"(?: the| this)? ?(?:arithmetic |geometric )?{SERIES}:? ?{TERMS}",
        build.step,
    ),
    (
        rf"(?:find|what is|determine|calculate) (?:the )?{NTH} term of an? "
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
        rf"solutions|root|roots|solution set)(?: of| to) (?:{EQUATIONS}:? )?(?P<eqs>.+)",
        build.solve,
    ),
    (
        r"(?:find|determine|what are) (?:all )?(?:the )?(?:real )?(?:roots|zeros|zeroes)(?: of) "
        r"(?:the )?(?:polynomial |quadratic |function |equation |quadratic equation "
        r"|quadratic function )?(?P<e>.+)",
        build.roots,
    ),
    (
        rf"(?:solve for {V}(?: in| from| if| when| given that)?[:,]? "
        rf"|find {V2}(?:[:,]|,? (?:if|when|given that|given|such that|for which|where|from)) )"
        rf"(?:{EQUATIONS}:? ?)?(?P<eqs>.+)",
        build.solve,
    ),
    (rf"solve (?:{EQUATIONS}:? ?)?(?P<eqs>.+?),? for {V}", build.solve),
    (rf"solve:? ?(?:{EQUATIONS}:? ?)?(?P<eqs>.+)", build.solve),
    (
        rf"(?:what is|what's|find|determine|calculate) (?:the )?(?:value|values) of {V}"
        rf"(?: in the equation| in the following equation| if| when| given that| given| in"
        rf"| for which| such that| that satisfies| that satisfy)[:,]? (?P<eqs>.+)",
        build.solve,
    ),
    (rf"what is {V} (?:if|when|given that|given|in) (?P<eqs>.+)", build.solve),
    (
        rf"(?:what|which|for what|for which) (?:value|values) of {V} (?:satisfies|satisfy|makes?"
        rf"|is|are|solves)(?: (?:the )?equation)? (?P<eqs>.+?)(?: true)?",
        build.solve,
    ),
    (
        rf"{IF} (?P<eqs>.+?)[,;.]? (?:then )?(?:what is|what's|what are|find|solve for|determine"
        rf"|calculate|what must) (?:the )?(?:value of |values of )?{V}(?: equal to| equal| be)?",
        build.solve,
    ),
    (rf"{IF} (?P<eqs>.+?)[,;.]? (?:then )?{V} ?= ?\??", build.solve),
    (rf"(?:{EQUATIONS}:? )?(?P<eqs>[^?]+?)[,;.]? (?:solve for|find|what is) {V}", build.solve),
    (rf"(?P<eqs>[^?]+?)[,;.] ?{V} ?= ?\?", build.solve),
    (
        rf"{IF} (?P<eqs>.+?)[,;.]? (?:then )?{WHAT}(?: the value of)?(?: the expression)?"
        rf" (?P<e>[^=]+)",
        build.wanted,
    ),
    (rf"{WHAT} (?P<e>[^=]+?),? (?:if|given that|given|when) (?P<eqs>[^=]*=.+)", build.wanted),
    # rewriting
    (
        r"(?:expand and simplify|expand the brackets|expand|multiply out)\b(?: the)?(?: expression"
        r"| product| following)?:? ?(?P<e>.+)",
        build.rewrite("expand"),
    ),
    (
        r"(?:factor|factorise|factorize)\b(?: completely| fully)?(?: the)?(?: following)?(?: "
        r"quadratic expression| quadratic polynomial| expression| polynomial| quadratic| "
        r"trinomial)?"
        r":? ?(?P<e>.+?)(?: completely| fully)?",
        build.rewrite("factor"),
    ),
    (
        r"(?:simplify|combine like terms in|combine like terms)\b(?: the)?(?: following)?(?: "
        r"expression| fraction)?:? ?(?P<e>.+?)",
        build.rewrite("simplify"),
    ),
    # arithmetic
    (
        rf"(?:{WHAT}|solve|simplify)(?: the)?(?: following)?(?: result of| expression)?:? ?"
        r"(?P<e>[^=]+?)(?: ?= ?\??)?",
        build.evaluate,
    ),
    (r"(?P<e>[^=]+?) ?= ?(?:\?|_+)?", build.evaluate),
    (r"(?P<eqs>[^?]*[=<>][^?]*)", build.solve),
]
