"""The forms of exercises in English: patterns of whole questions, in plain notation.

The first form that matches, and whose builder accepts its parts, is used. Of two words that begin
alike the longer one comes first. `patterns.table` explains the notation.
"""

from __future__ import annotations

from algebra import units
from algebra.patterns import F2, MATRIX, TERMS, A, B, D, F, named, table
from algebra.phrases import NUMBER, POINT

V = r"(?P<v>[A-Za-z]((, ?<and >| and )[A-Za-z])*)"
V2 = V.replace("?P<v>", "?P<v2>")
E = "(?P<e>.+?)"
VALUE = "(?P<e>[^=]+)"
EQS = "(?P<eqs>.+?)"
GIVEN = "(?P<eqs>[^=]*=.+?)"
WHAT = (
    "(what is|what's|whats|what are|find|calculate|compute|work out|determine|evaluate|how much is"
    "|give|state)< the value of>"
)
SAY = f"({WHAT}|write)"
IF = "(if|given that|given|suppose|suppose that|when|let)"
EQUATIONS = (
    "<the |this |these ><following ><simultaneous |linear |quadratic |cubic |rational |radical "
    "|exponential |logarithmic |absolute value |polynomial >"
    "((?P<system>system of <linear >equations|systems of equations|pair of equations"
    "|system of <linear >inequalities|linear system|system)"
    r"|equations|equation|inequalities|inequality)\b"
)
OF = " of <the ><function |curve |graph of |parabola |quadratic |quadratic function >"
LINE = "<the |a ><straight >line"
SLOPE = "(slope|gradient)"
THROUGH = "(through|passing through|that passes through|which passes through|that goes through)"
JOINING = f"({THROUGH[1:-1]}|joining|connecting|that joins|containing|between)"
POINTS = rf"<the ><points? >(?P<p>{POINT}) (and|to) <the point >(?P<q>{POINT})"
TWO = rf"{IF} {F}(?P<fb>.+?)(,? and|[,;]) (?P<g>[fgh]) ?\((?P=x)\) ?= ?(?P<gb>.+?)[,;.]? <then >"
FAMILY = "<(?P<family>arithmetic|geometric) >"
SERIES = "(sequence|progression|series|pattern|number sequence|list)"
IN_SERIES = f"< in| of>< the| this>< following> ?<{FAMILY}{SERIES}>:? ?{TERMS}"
FIRST = rf"{WHAT} <the >sum of <the >first (?P<n>\d{{1,4}}) terms of"
TERM = r"<the >(?P<n>\d{1,6})(st|nd|rd|th) term"
WITH = (
    rf"(with|whose) <a >first term< is> {A} and <a >common (?P<what>difference|ratio)< is| of> {D}"
)
LIST = rf"(?P<ns>{NUMBER}( ?,? <and >|, ?){NUMBER}((, ?<and >| and ){NUMBER})*)"
MONEY = "<(?P<u>[$€£¥])>"
RATE = "(percent|percentage|per cent)"
PERCENT = f" ?(%|{RATE})"
UNIT = f"(?P<f>{units.PATTERN})"
OTHER = f"(?P<t>{units.PATTERN})"
BLANK = r"<\?|_+|\( ?\)>"
WRITE = "(write|convert|express|change|rewrite)"
AS = "(as|to|into) <a |an >"

ENGLISH = table(rf"""
compose: {TWO}{WHAT} (?P<o>[fgh]) ?\( ?(?P<i>[fgh]) ?\((?P<at>[^()]+)\) ?\)
compose: {TWO}{WHAT} \( ?(?P<o>[fgh]) ?∘ ?(?P<i>[fgh]) ?\) ?\((?P<at>[^()]+)\)
inverse_function: {WHAT} <the >inverse< function> of <the ><function >{F}(?P<body>.+)
of_function: {WHAT} <the >(?P<kind>domain){OF}{E}
of_function kind=vertex:
    {WHAT} <the >(?P<asked>vertex|axis of symmetry|minimum|maximum)< value>{OF}{E}
of_function: {WHAT} <the >(?P<kind>discriminant) of <the ><expression |equation |quadratic >{E}
of_function kind=square:
    complete the square< for| in| on| of>:? <the ><expression |equation |quadratic >{E}
of_function kind=square: {WRITE} {E}
    in (vertex form|completed square form|the form a\(x ?- ?h\)\^2 ?\+ ?k)
slope_line: {SAY} <the >equation of {LINE} with <a >{SLOPE}< of> {named("m")} <and >{THROUGH}
    <the ><point >(?P<p>{POINT})
slope_line: {SAY} <the >equation of {LINE} {THROUGH} <the ><point >(?P<p>{POINT})
    with <a >{SLOPE}< of> {named("m")}

divide: {WHAT} <the >(?P<asked>quotient and <the >remainder|remainder|quotient)
    (when|if) (?P<a>.+?) is divided by (?P<b>.+)
divide asked=remainder: {WHAT} (?P<a>\d+) mod (?P<b>\d+)
divide asked=result: divide (?P<a>.+?) by (?P<b>.+)
matrix: {WHAT} <the >(?P<kind>determinant|inverse|rank|trace|transpose|eigenvalues)
    of <the ><matrix >{MATRIX}
matrix kind=determinant: <{WHAT} >det ?\(? ?{MATRIX} ?\)?

sum_of_terms: {FIRST} <an |a |the >(?P<family>arithmetic|geometric) {SERIES} {WITH}
sum_of_sequence: {FIRST} <the >{FAMILY}{SERIES}:? ?{TERMS}
infinite_sum: {WHAT} <the >sum of <the |an >infinite (?P<family>geometric) {SERIES} {WITH}
listed kind=infinite_series: {WHAT} <the >sum of <the >infinite geometric {SERIES}:?
    (?P<ns>{NUMBER}( ?[,+] ?{NUMBER}){{2,9}})<,| ?\+> ?\.\.\.
sigma: <{WHAT} ><the sum >\\sum_\{{? ?(?P<k>[a-z]) ?= ?(?P<lo>\d{{1,4}}) ?\}}?\
    \^(\((?P<hi>\d{{1,4}})\) ?|(?P<hi2>\d{{1,4}}) |(?P<hi3>\d)){E}< ?= ?\??>
recurrence: {IF} (?P<s>[a-z])_(?P<at>\d) ?= ?{named("first")},? <and >(?P=s)_\
    (?P<later>n|[({{]n ?\+ ?1[)}}]) ?= ?(?P<body>.+?)\
    ( for <all >n ?(\>=|\>) ?\d)?[,;.]? <then >{WHAT}
    (?P=s)_(?P<w>\d{{1,3}})

as_mixed: {WRITE} {named("e")} {AS}mixed (number|fraction)
form_of_number kind=as_fraction: {WRITE} {named("e")} {AS}improper fraction
square_roots: {WHAT} <the >square roots of {named("e")}
rewrite kind=expand: multiply:? (?P<e>\(.+\) ?\(.+\))
combine sign=+: (add (?P<a>.+?) (and|to)|{WHAT} <the >sum of (?P<c>.+?) and) (?P<b>.+)
combine sign=*: ({WHAT} <the >product of (?P<a>.+?) and|multiply (?P<c>.+?) by) (?P<b>.+)
combine sign=-: subtract (?P<b>.+?) from (?P<a>.+)
combine sign=÷: {WHAT} <the >quotient of (?P<a>.+?) and (?P<b>.+)
listed kind=sum: {WHAT} <the >sum of< the numbers|:>:? ?{LIST}
listed kind=product: {WHAT} <the >product of< the numbers|:>:? ?{LIST}
difference: {WHAT} <the >difference (between|of) {A} and {B}

points: {WHAT} <the >(?P<kind>slope|gradient) of {LINE} {JOINING} {POINTS}
points: {WHAT} <the >(?P<kind>slope|gradient|distance) (between|from) {POINTS}
points kind=line: {SAY} <the >equation of {LINE} {JOINING} {POINTS}
points: {WHAT} <the >(?P<kind>midpoint) (of|between)( the <line >segment)?\
    < joining| between| connecting| with endpoints> ?{POINTS}
line: {WHAT} <the >(?P<asked>slope|gradient) of <the ><line >(?P<eq>[^,?]+=[^,?]+)
line: {WHAT} <the >(?P<asked>y-intercept) of <the ><line |graph of >(?P<eq>[^,?]+=[^,?]+)

function: {IF} {F}(?P<body>.+?)[,;.]? <then >{WHAT} {F2}
function: {WHAT} {F2},? (if|when|given|given that|for|where) {F}(?P<body>.+)
substitute: ({WHAT}|simplify and evaluate) <the ><expression >(?P<e>[^=]+?),?
    (for|when|if|at|where|given|given that|with) {GIVEN}
substitute: {IF} {GIVEN}[,;]? <then >{WHAT} {VALUE}
substitute: {GIVEN}\. {WHAT} {VALUE}

percent_of: <{WHAT} >{A}{PERCENT} of {MONEY}{B}
percent_change: <{WHAT} >{MONEY}{A} (?P<way>increased|decreased|reduced) by {B}{PERCENT}
percent_change: (?P<way>increase|decrease|reduce) {MONEY}{A} by {B}{PERCENT}
numbers kind=share: what {RATE} is {A} of {B}
numbers kind=share: what {RATE} of {B} is {A}
numbers kind=share: {A} is what {RATE} of {B}
numbers kind=share: (express|write) {A} as a {RATE} of {B}
numbers kind=base: {A} is {B}{PERCENT} of (what|what number|which number)
change: {WHAT} <the >{RATE} (?P<asked>change|increase|decrease) from {MONEY}{A} to [$€£¥]?{B}

whole_list kind=gcd: <{WHAT} ><the >(gcd|gcf|hcf|greatest common divisor|greatest common factor|
    highest common factor|largest common divisor)( \((gcd|gcf|hcf)\))?\
     ?<of|between>< the numbers> ?\(?{LIST}\)?< ?= ?\??>
whole_list kind=lcm: <{WHAT} ><the >(lcm|least common multiple|lowest common multiple|
    smallest common multiple)( \(lcm\))? ?<of|between>< the numbers> ?\(?{LIST}\)?< ?= ?\??>
listed kind=mean: {WHAT} <the >(average|mean|arithmetic mean) of< the numbers|:>:? ?{LIST}
listed kind=median: {WHAT} <the >median of< the numbers|:>:? ?{LIST}
whole_list kind=primes: {SAY} <the >prime (factorization|factorisation) of (?P<ns>\d{{1,9}})
whole_list kind=primes: (factor|factorise|factorize) (?P<ns>\d{{1,9}})< completely>
ratio: simplify <the >ratio:? (?P<a>\d{{1,9}}) ?: ?(?P<b>\d{{1,9}})

term: {SAY} <the >next (term|number){IN_SERIES}
term: (what|which number) comes next( in (the|this) {SERIES})?:? ?{TERMS}
term: {WHAT} {TERM}{IN_SERIES}
general_term: {SAY} <the |a formula for the >(nth|n-th|general) term{IN_SERIES}
step: {WHAT} <the >common (?P<what>difference|ratio){IN_SERIES}
described: {WHAT} {TERM} of an? (?P<family>arithmetic|geometric) {SERIES} {WITH}
sum_of_terms family=arithmetic what=difference a=1 d=1:
    {WHAT} <the >sum of <the >first (?P<n>\d{{1,7}})
    (positive integers|natural numbers|positive whole numbers|counting numbers)

convert: {WRITE} {A} ?{UNIT} (to|into|in) <a >{OTHER}
convert: how many {OTHER}< are there| are| is> (in|equal to) {A} ?{UNIT}
convert a=1: how many {OTHER}< are there| are| is> in an? {UNIT}
convert: <what is >{A} ?{UNIT} in {OTHER}
convert: {A} ?{UNIT} ?= ?{BLANK} ?{OTHER}
form_of_number kind=as_fraction: {WRITE} {E} {AS}\
    (fraction|simplified fraction|fraction in lowest terms|fraction in simplest form)
form_of_number kind=as_decimal: {WRITE} {E} {AS}decimal
form_of_number kind=as_percent: {WRITE} {E} {AS}{RATE}
form_of_number kind=as_fraction: (simplify|reduce)< the fraction> (?P<e>\d{{1,9}} ?/ ?\d{{1,9}})\
    ( to <its >(lowest terms|simplest form))?

solve: (solve|find|determine|what are|what is) <all ><the ><real >\
    (solution|solutions|root|roots|solution set)( of| to) <{EQUATIONS}:? >{EQS}
roots: (find|determine|what are) <all ><the ><real >(roots|zeros|zeroes|x-intercepts) of\
     <the ><polynomial |quadratic |function |equation |quadratic equation |quadratic function >{E}
solve: (solve <the equation |the system |the inequality >for {V}\
    < in| from| if| when| given that>[:,]? |(find|determine)< the value of> {V2}\
    ([:,.]|,? (if|when|given that|given|such that|for which|where|from)) )\
    <{EQUATIONS}:? ?>{EQS}
solve: solve <{EQUATIONS}:? ?>{EQS},? for {V}
solve: solve:? ?<{EQUATIONS}:? ?>{EQS}
solve: {WHAT} <the >(value|values) of {V}
    (if|when|given that|given|for which|such that|that satisfies|that satisfy)[:,]? {EQS}
solve: what is {V} (if|when|given that|given) {EQS}
value_in: {WHAT} <the value of |the values of >{V} in< the< following> equation>[:,]? {EQS}
solve: (what|which|for what|for which) (value|values) of {V}
    (satisfies|satisfy|makes?|is|are|solves)( <the >equation)? {EQS}< true>
solve: {IF} {EQS}[,;.]? <then >({WHAT}|solve for|what must) <the ><value of |values of >{V}\
    < equal to| equal| be>
solve: {IF} {EQS}[,;.]? <then >{V} ?= ?\??
solve: <{EQUATIONS}:? >(?P<eqs>[^?]+?)[,;.]? (solve for|find|what is) {V}
solve: (?P<eqs>[^?]+?)[,;.] ?{V} ?= ?\?
wanted: {IF} {EQS}[,;.]? <then >{WHAT}< the value of>< the expression> {VALUE}
wanted: {IF} {EQS}(,? then|[,;]) ?{VALUE} ?= ?{BLANK}
wanted: {WHAT} (?P<e>[^=]+?),? (if|given that|given|when) {GIVEN}

rewrite kind=expand: (expand and simplify|expand the brackets|expand|multiply out)\b< the>\
    < expression| product| following>:? ?{E}
rewrite kind=factor: (factor|factorise|factorize)\b< completely| fully>< the>< following>\
    < quadratic expression| quadratic polynomial| expression| polynomial| quadratic| trinomial>\
    :? ?{E}< completely| fully>
rewrite kind=simplify: (simplify|combine like terms in|combine like terms)\b< the>< following>\
    < expression| fraction>:? ?{E}
evaluate: ({WHAT}|solve|simplify)< the>< following>< result of| expression>:? ?\
    (?P<e>[^=]+?)< ?= ?\??>
evaluate: (?P<e>[^=]+?) ?= ?{BLANK}
evaluate: (?P<e>[^=?]*[\w)!] ?[+*÷^][^=?]*)\??
solve: (?P<eqs>[^?]*[=<>][^?]*)
""")
