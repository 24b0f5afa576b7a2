"""The forms of exercises on functions, polynomials, matrices and sums, in English and Chinese."""

from __future__ import annotations

from algebra import builders as build
from algebra.builders import Builder
from algebra.patterns import IF, SERIES, TERMS, WHAT, A, D, named
from algebra.phrases import NUMBER, POINT

_MATRIX = r"(?P<m>\[ ?\[[^\[\]]+\](?:, ?\[[^\[\]]+\]){1,3} ?\])"
_OF = r" of (?:the )?(?:function |curve |graph of |parabola |quadratic |quadratic function )?"
_SQUARE = r"(?:the )?(?:expression |equation |quadratic )?"
_FAMILY = r"(?P<family>arithmetic|geometric)"

FUNCTIONS: list[tuple[str, Builder]] = [
    # functions
    (
        rf"{IF} (?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<fb>.+?)(?:,? and|[,;]) (?P<g>[fgh]) ?"
        rf"\((?P=x)\) ?= ?(?P<gb>.+?)[,;.]? (?:then )?{WHAT} (?P<o>[fgh]) ?\( ?(?P<i>[fgh]) ?"
        r"\((?P<at>[^()]+)\) ?\)",
        build.compose,
    ),
    (
        rf"{IF} (?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<fb>.+?)(?:,? and|[,;]) (?P<g>[fgh]) ?"
        rf"\((?P=x)\) ?= ?(?P<gb>.+?)[,;.]? (?:then )?{WHAT} \( ?(?P<o>[fgh]) ?∘ ?(?P<i>[fgh]) "
        rf"?\) ?"
        r"\((?P<at>[^()]+)\)",
        build.compose,
    ),
    (
        rf"{WHAT} (?:the )?inverse(?: function)? of (?:the )?(?:function )?"
        r"(?P<e>[fgh] ?\([a-z]\) ?= ?.+)",
        build.inverse_function,
    ),
    (rf"{WHAT} (?:the )?domain{_OF}(?P<e>.+)", build.of_function("domain")),
    (r"求(?:函数)? ?(?P<e>[^\u4e00-\u9fff]+?) ?的定义域", build.of_function("domain")),
    (
        r"求(?:函数)? ?(?P<e>[fgh] ?\([a-z]\) ?= ?[^\u4e00-\u9fff]+?) ?的反函数",
        build.inverse_function,
    ),
    # parabolas
    (rf"{WHAT} (?:the )?vertex{_OF}(?P<e>.+)", build.of_function("vertex", "vertex")),
    (
        rf"{WHAT} (?:the )?axis of symmetry{_OF}(?P<e>.+)",
        build.of_function("vertex", "axis"),
    ),
    (
        rf"{WHAT} (?:the )?minimum(?: value)?{_OF}(?P<e>.+)",
        build.of_function("vertex", "minimum"),
    ),
    (
        rf"{WHAT} (?:the )?maximum(?: value)?{_OF}(?P<e>.+)",
        build.of_function("vertex", "maximum"),
    ),
    (rf"{WHAT} (?:the )?discriminant of {_SQUARE}(?P<e>.+)", build.of_function("discriminant")),
    (
        rf"complete the square(?: for| in| on| of)?:? {_SQUARE}(?P<e>.+)",
        build.of_function("square"),
    ),
    (
        r"(?:write|express|rewrite) (?P<e>.+?) in (?:vertex form|completed square form"
        r"|the form a\(x ?- ?h\)\^2 ?\+ ?k)",
        build.of_function("square"),
    ),
    (
        r"求(?:抛物线|二次函数) ?(?P<e>[^\u4e00-\u9fff]+?) ?的顶点(?:坐标)?",
        build.of_function("vertex", "vertex"),
    ),
    (r"求(?:方程)? ?(?P<e>[^\u4e00-\u9fff]+?) ?的判别式", build.of_function("discriminant")),
    (
        rf"{WHAT} (?:the )?equation of (?:the |a )?(?:straight )?line with (?:a "
        rf")?(?:slope|gradient)"
        rf"(?: of)? (?P<m>{NUMBER}) (?:through|passing through|that passes through|and passing "
        rf"through"
        rf"|that goes through) (?:the )?(?:point )?(?P<p>{POINT})",
        build.slope_line,
    ),
    (
        rf"{WHAT} (?:the )?equation of (?:the |a )?(?:straight )?line (?:through|passing through"
        rf"|that passes through) (?:the )?(?:point )?(?P<p>{POINT}) with (?:a )?(?:slope|gradient)"
        rf"(?: of)? (?P<m>{NUMBER})",
        build.slope_line,
    ),
    # division
    (
        rf"{WHAT} (?:the )?quotient and (?:the )?remainder (?:when|if) (?P<a>.+?) is divided by"
        r" (?P<b>.+)",
        build.divide("both"),
    ),
    (
        rf"{WHAT} (?:the )?remainder (?:when|if) (?P<a>.+?) is divided by (?P<b>.+)",
        build.divide("remainder"),
    ),
    (
        rf"{WHAT} (?:the )?quotient (?:when|if) (?P<a>.+?) is divided by (?P<b>.+)",
        build.divide("quotient"),
    ),
    (r"divide (?P<a>.+?) by (?P<b>.+)", build.divide("both")),
    (
        r"求 ?(?P<a>[^\u4e00-\u9fff]+?) ?(?:除以) ?(?P<b>[^\u4e00-\u9fff]+?) ?的余(?:数|式)",
        build.divide("remainder"),
    ),
    # matrices
    *[
        (rf"{WHAT} (?:the )?{words} of (?:the )?(?:matrix )?{_MATRIX}", build.matrix(kind))
        for words, kind in (
            ("determinant", "determinant"),
            ("inverse", "inverse_matrix"),
            ("rank", "rank"),
            ("trace", "trace"),
            ("transpose", "transpose"),
            ("eigenvalues", "eigenvalues"),
        )
    ],
    (rf"(?:{WHAT} )?det ?\(? ?{_MATRIX} ?\)?", build.matrix("determinant")),
    *[
        (rf"求(?:矩阵)? ?{_MATRIX} ?的{words}", build.matrix(kind))
        for words, kind in (
            ("行列式", "determinant"),
            ("逆矩阵", "inverse_matrix"),
            ("秩", "rank"),
            ("特征值", "eigenvalues"),
        )
    ],
    # sums and recurrences
    (
        rf"{WHAT} (?:the )?sum of (?:the )?first (?P<n>\d{{1,4}}) terms of (?:an |a |the "
        rf")?{_FAMILY} "
        rf"{SERIES} (?:with|whose) (?:a )?first term(?: is)? {A} and (?:a )?common "
        rf"(?:difference|ratio)(?: is| of)? {D}",
        build.sum_of_terms,
    ),
    (
        rf"{WHAT} (?:the )?sum of (?:the )?first (?P<n>\d{{1,4}}) terms of (?:the )?(?:{_FAMILY} )?"
        rf"{SERIES}:? ?{TERMS}",
        build.sum_of_sequence,
    ),
    (
        rf"{WHAT} (?:the )?sum of (?:the |an )?infinite geometric (?:series|sequence) "
        rf"(?:with|whose)"
        rf" (?:a )?first term(?: is)? {A} and (?:a )?common ratio(?: is| of)? {D}",
        lambda **parts: build.numbers("infinite_sum")(**parts)[:-1],
    ),
    (
        rf"{WHAT} (?:the )?sum of (?:the )?infinite geometric (?:series|sequence):? "
        rf"(?P<ns>{NUMBER}(?: ?[,+] ?{NUMBER}){{2,9}})(?:,| ?\+)? ?\.\.\.",
        lambda ns: build.infinite_series(ns.replace("+", ",")),
    ),
    (
        rf"(?:{WHAT} )?(?:the sum )?\\sum_\{{? ?(?P<k>[a-z]) ?= ?(?P<lo>\d{{1,4}}) ?\}}?\^\(?"
        r"(?P<hi>\d{1,4})\)? ?(?P<e>.+?)(?: ?= ?\??)?",
        build.sigma,
    ),
    (
        rf"{IF} (?P<s>[a-z])_(?P<at>\d) ?= ?{named('first')},? (?:and )?(?P=s)_"
        r"(?P<later>n|[({]n ?\+ ?1[)}]) ?= ?(?P<body>.+?)(?: for (?:all )?n ?(?:>=|>) ?\d)?[,;.]? "
        rf"(?:then )?{WHAT} (?P=s)_(?P<w>\d{{1,3}})",
        build.recurrence,
    ),
    # numbers
    (
        rf"(?:write|convert|express|change) {named('e')} (?:as|to|into) (?:a )?mixed "
        rf"(?:number|fraction)",
        build.as_mixed,
    ),
    (
        rf"(?:write|convert|express|change) {named('e')} (?:as|to|into) (?:an )?improper fraction",
        build.form_of_number("as_fraction"),
    ),
    (rf"{WHAT} (?:the )?square roots of {named('e')}", build.square_roots),
    (rf"(?:求)? ?{named('e')} ?的平方根(?:是多少|是|为多少)?", build.square_roots),
    (r"multiply (?P<e>\(.+\) ?\(.+\))", build.rewrite("expand")),
]
