"""The forms of exercises in English: patterns of whole questions, in plain notation.

The first form that matches, and whose builder accepts its parts, is used. Of two words that begin
alike the longer one comes first. `patterns.regex` explains the notation.
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
    MATRIX,
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
    named,
)
from algebra.phrases import NUMBER, POINT

_OF = " of <the ><function |curve |graph of |parabola |quadratic |quadratic function >"
_SQUARE = "<the ><expression |equation |quadratic >"

ENGLISH: list[tuple[str, Builder]] = [
    # functions
    (
        rf"{IF} (?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<fb>.+?)(,? and|[,;]) "
        rf"(?P<g>[fgh]) ?\((?P=x)\) ?= ?(?P<gb>.+?)[,;.]? <then >{WHAT} "
        rf"(?P<o>[fgh]) ?\( ?(?P<i>[fgh]) ?\((?P<at>[^()]+)\) ?\)",
        build.compose,
    ),
    (
        rf"{IF} (?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<fb>.+?)(,? and|[,;]) "
        rf"(?P<g>[fgh]) ?\((?P=x)\) ?= ?(?P<gb>.+?)[,;.]? <then >{WHAT} "
        rf"\( ?(?P<o>[fgh]) ?∘ ?(?P<i>[fgh]) ?\) ?\((?P<at>[^()]+)\)",
        build.compose,
    ),
    (
        rf"{WHAT} <the >inverse< function> of <the ><function >(?P<e>[fgh] ?\([a-z]\) ?= ?.+)",
        build.inverse_function,
    ),
    (rf"{WHAT} <the >domain{_OF}(?P<e>.+)", build.of_function("domain")),
    # parabolas
    (rf"{WHAT} <the >vertex{_OF}(?P<e>.+)", build.of_function("vertex", "vertex")),
    (rf"{WHAT} <the >axis of symmetry{_OF}(?P<e>.+)", build.of_function("vertex", "axis")),
    (rf"{WHAT} <the >minimum< value>{_OF}(?P<e>.+)", build.of_function("vertex", "minimum")),
    (rf"{WHAT} <the >maximum< value>{_OF}(?P<e>.+)", build.of_function("vertex", "maximum")),
    (rf"{WHAT} <the >discriminant of {_SQUARE}(?P<e>.+)", build.of_function("discriminant")),
    (rf"complete the square< for| in| on| of>:? {_SQUARE}(?P<e>.+)", build.of_function("square")),
    (
        r"(write|express|rewrite) (?P<e>.+?) in (vertex form|completed square form|the form "
        r"a\(x ?- ?h\)\^2 ?\+ ?k)",
        build.of_function("square"),
    ),
    (
        rf"{WHAT} <the >equation of <the |a ><straight >line with <a >(slope|gradient)< of> "
        rf"(?P<m>{NUMBER}) (through|passing through|that passes through|and passing through|that "
        rf"goes through) <the ><point >(?P<p>{POINT})",
        build.slope_line,
    ),
    (
        rf"{WHAT} <the >equation of <the |a ><straight >line (through|passing through|that passes "
        rf"through) <the ><point >(?P<p>{POINT}) with <a >(slope|gradient)< of> (?P<m>{NUMBER})",
        build.slope_line,
    ),
    # division
    (
        rf"{WHAT} <the >quotient and <the >remainder (when|if) (?P<a>.+?) is divided by (?P<b>.+)",
        build.divide("both"),
    ),
    (
        rf"{WHAT} <the >remainder (when|if) (?P<a>.+?) is divided by (?P<b>.+)",
        build.divide("remainder"),
    ),
    (
        rf"{WHAT} <the >quotient (when|if) (?P<a>.+?) is divided by (?P<b>.+)",
        build.divide("quotient"),
    ),
    (r"divide (?P<a>.+?) by (?P<b>.+)", build.divide("both")),
    # matrices
    *[
        (rf"{WHAT} <the >{kind} of <the ><matrix >{MATRIX}", build.matrix(kind))
        for kind in ("determinant", "inverse", "rank", "trace", "transpose", "eigenvalues")
    ],
    (rf"<{WHAT} >det ?\(? ?{MATRIX} ?\)?", build.matrix("determinant")),
    # sums and recurrences
    (
        rf"{WHAT} <the >sum of <the >first (?P<n>\d{{1,4}}) terms of <an |a |"
        rf"the >(?P<family>arithmetic|geometric) {SERIES} (with|whose) <a >first term< is> {A} "
        rf"and <a >common (difference|ratio)< is| of> {D}",
        build.sum_of_terms,
    ),
    (
        rf"{WHAT} <the >sum of <the >first (?P<n>\d{{1,4}}) terms of "
        rf"<the >{FAMILY}{SERIES}:? ?{TERMS}",
        build.sum_of_sequence,
    ),
    (
        rf"{WHAT} <the >sum of <the |an >infinite geometric (series|sequence) (with|whose) "
        rf"<a >first term< is> {A} and <a >common ratio< is| of> {D}",
        lambda **parts: build.numbers("infinite_sum")(**parts)[:-1],
    ),
    (
        rf"{WHAT} <the >sum of <the >infinite geometric (series|sequence):? "
        rf"(?P<ns>{NUMBER}( ?[,+] ?{NUMBER}){{2,9}})<,| ?\+> ?\.\.\.",
        lambda ns: build.listed("infinite_series")(ns.replace("+", ",")),
    ),
    (
        rf"<{WHAT} ><the sum >\\sum_\{{? ?(?P<k>[a-z]) ?= ?(?P<lo>\d{{1,4}}) "
        rf"?\}}?\^\(?(?P<hi>\d{{1,4}})\)? ?(?P<e>.+?)< ?= ?\??>",
        build.sigma,
    ),
    (
        rf"{IF} (?P<s>[a-z])_(?P<at>\d) ?= ?{named('first')},? <and >(?P=s)_(?P<later>n|"
        rf"[({{]n ?\+ ?1[)}}]) ?= ?(?P<body>.+?)( for <all >n ?(\>=|\>) ?\d)?[,;.]? <then >{WHAT} "
        rf"(?P=s)_(?P<w>\d{{1,3}})",
        build.recurrence,
    ),
    # numbers
    (
        rf"(write|convert|express|change) {named('e')} (as|to|into) <a >mixed (number|fraction)",
        build.as_mixed,
    ),
    (
        rf"(write|convert|express|change) {named('e')} (as|to|into) <an >improper fraction",
        build.form_of_number("as_fraction"),
    ),
    (rf"{WHAT} <the >square roots of {named('e')}", build.square_roots),
    (r"multiply (?P<e>\(.+\) ?\(.+\))", build.rewrite("expand")),
    # points and lines
    (
        rf"{WHAT} <the >(slope|gradient) of <the |a ><straight >line (through|passing through|"
        rf"that passes through|which passes through|joining|connecting|that joins|that goes "
        rf"through|containing|between) {POINTS}",
        build.points("slope"),
    ),
    (rf"{WHAT} <the >(slope|gradient) (between|from) {POINTS}", build.points("slope")),
    (
        rf"{WHAT} <the >equation of <the |a ><straight >line (through|passing through|that passes "
        rf"through|joining|connecting|that joins) {POINTS}",
        build.points("line"),
    ),
    (rf"{WHAT} <the >distance (between|from) {POINTS}", build.points("distance")),
    (
        rf"{WHAT} <the >midpoint (of|between)( the <line >segment)?< joining| between| connecting|"
        rf" with endpoints> ?{POINTS}",
        build.points("midpoint"),
    ),
    (
        rf"{WHAT} <the >(slope|gradient) of <the ><line >(?P<eq>[^,?]+=[^,?]+)",
        build.line("slope_of"),
    ),
    (
        rf"{WHAT} <the >y-intercept of <the ><line |graph of >(?P<eq>[^,?]+=[^,?]+)",
        build.line("intercept_of"),
    ),
    # functions and values
    (
        rf"{IF} (?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<body>.+?)[,;.]? <then >{WHAT} "
        rf"(?P<f2>[fgh]) ?\((?P<at>[^()]+)\)",
        build.function,
    ),
    (
        rf"{WHAT} (?P<f2>[fgh]) ?\((?P<at>[^()]+)\),? (if|when|given|given that|for|where) "
        rf"(?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<body>.+)",
        build.function,
    ),
    (
        rf"({WHAT}|simplify and evaluate) <the ><expression >(?P<e>[^=]+?),? (for|when|if|at|"
        rf"where|given|given that|with) (?P<eqs>[^=]*=.+)",
        build.substitute,
    ),
    (rf"{IF} (?P<eqs>[^=]*=.+?)[,;]? <then >{WHAT} (?P<e>[^=]+)", build.substitute),
    (rf"(?P<eqs>[^=]*=.+?)\. {WHAT} (?P<e>[^=]+)", build.substitute),
    # percentages
    (rf"<{WHAT} >{A}{PERCENT} of {MONEY}{B}", build.numbers("percent_of")),
    (
        rf"<{WHAT} >{MONEY}{A} (increased by|plus an increase of) {B}{PERCENT}",
        build.numbers("percent_change", 1),
    ),
    (rf"increase {MONEY}{A} by {B}{PERCENT}", build.numbers("percent_change", 1)),
    (
        rf"<{WHAT} >{MONEY}{A} (decreased|reduced) by {B}{PERCENT}",
        build.numbers("percent_change", -1),
    ),
    (rf"(decrease|reduce) {MONEY}{A} by {B}{PERCENT}", build.numbers("percent_change", -1)),
    (rf"what (percent|percentage|per cent) is {A} of {B}", build.numbers("share")),
    (rf"what (percent|percentage|per cent) of {B} is {A}", build.numbers("share")),
    (rf"{A} is what (percent|percentage|per cent) of {B}", build.numbers("share")),
    (rf"(express|write) {A} as a (percent|percentage) of {B}", build.numbers("share")),
    (rf"{A} is {B}{PERCENT} of (what|what number|which number)", build.numbers("base")),
    (
        rf"{WHAT} <the >(percent|percentage) (?P<w>change|increase|decrease) from {MONEY}{A} to "
        rf"[$€£¥]?{B}",
        build.change,
    ),
    # whole numbers and lists
    (
        rf"<{WHAT} ><the >(gcd|gcf|hcf|greatest common divisor|greatest common factor|highest "
        rf"common factor|largest common divisor)( \((gcd|gcf|hcf)\))? ?<of|"
        rf"between>< the numbers> ?\(?{LIST}\)?",
        build.whole_list("gcd"),
    ),
    (
        rf"<{WHAT} ><the >(lcm|least common multiple|lowest common multiple|smallest common "
        rf"multiple)( \(lcm\))? ?<of|between>< the numbers> ?\(?{LIST}\)?",
        build.whole_list("lcm"),
    ),
    (
        rf"{WHAT} <the >(average|mean|arithmetic mean) of< the numbers|:>:? ?{LIST}",
        build.listed("mean"),
    ),
    (rf"{WHAT} <the >median of< the numbers|:>:? ?{LIST}", build.listed("median")),
    (
        r"(what is|find|give|write|determine) <the >prime (factorization|factorisation) of "
        r"(?P<ns>\d{1,9})",
        build.whole_list("primes"),
    ),
    (r"simplify <the >ratio:? (?P<a>\d{1,9}) ?: ?(?P<b>\d{1,9})", build.ratio),
    # sequences
    (
        rf"(what is|what's|find|determine|write|give) <the >next (term|number)( in| of)< the| "
        rf"this>< following> ?{FAMILY}{SERIES}:? ?{TERMS}",
        build.term,
    ),
    (rf"(what|which number) comes next( in (the|this) {SERIES})?:? ?{TERMS}", build.term),
    (
        rf"(what is|find|determine|calculate) <the >{NTH} term( in| of)< the| "
        rf"this>< following> ?{FAMILY}{SERIES}:? ?{TERMS}",
        build.term,
    ),
    (
        rf"a sequence goes on by equal steps:? {TERMS}\.? what is its term number (?P<n>\d+)",
        lambda **parts: build.term(**parts, family="arithmetic"),
    ),
    (
        rf"(what is|find|determine|write) <the |a formula for the >(nth|n-th|general) term( in| "
        rf"of)< the| this> ?{FAMILY}{SERIES}:? ?{TERMS}",
        build.general_term,
    ),
    (
        rf"(what is|find|determine) <the >common (?P<what>difference|ratio)( in| of)< the| "
        rf"this> ?<arithmetic |geometric >{SERIES}:? ?{TERMS}",
        build.step,
    ),
    (
        rf"(find|what is|determine|calculate) <the >{NTH} term of an? (?P<family>arithmetic|"
        rf"geometric) (sequence|progression) (with|whose) <a >first term< is> {A} and <a >common "
        rf"(difference|ratio)< is| of> {D}",
        build.described,
    ),
    (
        r"(what is|find|calculate) <the >sum of <the >first (?P<n>\d{1,7}) (positive integers|"
        r"natural numbers|positive whole numbers|counting numbers)",
        build.numbers("sum_to"),
    ),
    # units
    (
        rf"(convert|change|express) {A} ?(?P<f>{units.PATTERN}) (to|into|in) "
        rf"<a >(?P<t>{units.PATTERN})",
        build.convert,
    ),
    (
        rf"how many (?P<t>{units.PATTERN}) (are|are there|is) (in|equal to) "
        rf"{A} ?(?P<f>{units.PATTERN})",
        build.convert,
    ),
    (rf"<what is >{A} ?(?P<f>{units.PATTERN}) in (?P<t>{units.PATTERN})", build.convert),
    (rf"{A} ?(?P<f>{units.PATTERN}) ?= ?<\?|_+> ?(?P<t>{units.PATTERN})", build.convert),
    # forms of numbers
    (
        r"(write|convert|express|change) (?P<e>.+?) (as|to|into) <a |an >(fraction|simplified "
        r"fraction|fraction in lowest terms|fraction in simplest form)",
        build.form_of_number("as_fraction"),
    ),
    (
        r"(write|convert|express|change) (?P<e>.+?) (as|to|into) <a >decimal",
        build.form_of_number("as_decimal"),
    ),
    (
        r"(write|convert|express|change) (?P<e>.+?) (as|to|into) <a >(percent|percentage)",
        build.form_of_number("as_percent"),
    ),
    (
        r"(simplify|reduce)< the fraction> (?P<e>\d{1,9} ?/ ?\d{1,9})( to <its >(lowest terms|"
        r"simplest form))?",
        build.form_of_number("as_fraction"),
    ),
    # equations
    (
        rf"(solve|find|determine|what are|what is) <all ><the ><real >(solution|solutions|root|"
        rf"roots|solution set)( of| to) <{EQUATIONS}:? >(?P<eqs>.+)",
        build.solve,
    ),
    (
        r"(find|determine|what are) <all ><the ><real >(roots|zeros|zeroes)( of) "
        r"<the ><polynomial |quadratic |function |equation |quadratic equation |quadratic "
        r"function >(?P<e>.+)",
        build.roots,
    ),
    (
        rf"(solve for {V}< in| from| if| when| given that>[:,]? |find {V2}([:,]|,? (if|when|given "
        rf"that|given|such that|for which|where|from)) )<{EQUATIONS}:? ?>(?P<eqs>.+)",
        build.solve,
    ),
    (rf"solve <{EQUATIONS}:? ?>(?P<eqs>.+?),? for {V}", build.solve),
    (rf"solve:? ?<{EQUATIONS}:? ?>(?P<eqs>.+)", build.solve),
    (
        rf"(what is|what's|find|determine|calculate) <the >(value|values) of {V}( in the equation|"
        rf" in the following equation| if| when| given that| given| in| for which| such that| "
        rf"that satisfies| that satisfy)[:,]? (?P<eqs>.+)",
        build.solve,
    ),
    (rf"what is {V} (if|when|given that|given|in) (?P<eqs>.+)", build.solve),
    (
        rf"(what|which|for what|for which) (value|values) of {V} (satisfies|satisfy|makes?|is|are|"
        rf"solves)( <the >equation)? (?P<eqs>.+?)< true>",
        build.solve,
    ),
    (
        rf"{IF} (?P<eqs>.+?)[,;.]? <then >(what is|what's|what are|find|solve for|determine|"
        rf"calculate|what must) <the ><value of |values of >{V}< equal to| equal| be>",
        build.solve,
    ),
    (rf"{IF} (?P<eqs>.+?)[,;.]? <then >{V} ?= ?\??", build.solve),
    (rf"<{EQUATIONS}:? >(?P<eqs>[^?]+?)[,;.]? (solve for|find|what is) {V}", build.solve),
    (rf"(?P<eqs>[^?]+?)[,;.] ?{V} ?= ?\?", build.solve),
    (
        rf"{IF} (?P<eqs>.+?)[,;.]? <then >{WHAT}< the value of>< the expression> (?P<e>[^=]+)",
        build.wanted,
    ),
    (rf"{WHAT} (?P<e>[^=]+?),? (if|given that|given|when) (?P<eqs>[^=]*=.+)", build.wanted),
    # rewriting
    (
        r"(expand and simplify|expand the brackets|expand|multiply out)\b< the>< expression| "
        r"product| following>:? ?(?P<e>.+)",
        build.rewrite("expand"),
    ),
    (
        r"(factor|factorise|factorize)\b< completely| "
        r"fully>< the>< following>< quadratic expression| quadratic polynomial| expression| "
        r"polynomial| quadratic| trinomial>:? ?(?P<e>.+?)< completely| fully>",
        build.rewrite("factor"),
    ),
    (
        r"(simplify|combine like terms in|combine like terms)\b< the>< following>< expression| "
        r"fraction>:? ?(?P<e>.+?)",
        build.rewrite("simplify"),
    ),
    # arithmetic
    (
        rf"({WHAT}|solve|simplify)< the>< following>< result of| "
        rf"expression>:? ?(?P<e>[^=]+?)< ?= ?\??>",
        build.evaluate,
    ),
    (r"(?P<e>[^=]+?) ?= ?<\?|_+>", build.evaluate),
    (r"(?P<eqs>[^?]*[=<>][^?]*)", build.solve),
]
