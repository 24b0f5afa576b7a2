"""The forms of exercises in Chinese, as in `forms`; punctuation is already ASCII."""

from __future__ import annotations

from algebra import builders as build
from algebra import units
from algebra.builders import Builder
from algebra.patterns import MATRIX, TERMS, A, B, named
from algebra.phrases import NUMBER, POINT

_LIST = rf"(?P<ns>{NUMBER}((, ?| ?[和与及] ?) ?{NUMBER})+)"
_NAME = r"(?P<v>[A-Za-z]((, ?| ?[和与] ?)[A-Za-z])*)"
_ASK = "(是多少|等于多少|等于几|是几|的值是多少|的值|的值等于多少|为多少|多少)"
_GIVEN = "(如果|若|已知|设|当)"
_FORMULA = r"[^\u4e00-\u9fff]+"  # without Chinese characters

CHINESE: list[tuple[str, Builder]] = [
    (r"求<函数> ?(?P<e>[^\u4e00-\u9fff]+?) ?的定义域", build.of_function("domain")),
    (r"求<函数> ?(?P<e>[fgh] ?\([a-z]\) ?= ?[^\u4e00-\u9fff]+?) ?的反函数", build.inverse_function),
    (
        r"求(抛物线|二次函数) ?(?P<e>[^\u4e00-\u9fff]+?) ?的顶点<坐标>",
        build.of_function("vertex", "vertex"),
    ),
    (r"求<方程> ?(?P<e>[^\u4e00-\u9fff]+?) ?的判别式", build.of_function("discriminant")),
    (
        r"求 ?(?P<a>[^\u4e00-\u9fff]+?) ?(除以) ?(?P<b>[^\u4e00-\u9fff]+?) ?的余(数|式)",
        build.divide("remainder"),
    ),
    *[
        (rf"求<矩阵> ?{MATRIX} ?的{words}", build.matrix(kind))
        for words, kind in (
            ("行列式", "determinant"),
            ("逆矩阵", "inverse"),
            ("秩", "rank"),
            ("特征值", "eigenvalues"),
        )
    ],
    (rf"<求> ?{named('e')} ?的平方根<是多少|是|为多少>", build.square_roots),
    (
        rf"<求|计算><过|经过|通过|连接><点> ?(?P<p>{POINT}) ?(和|与|"
        rf",) ?<点> ?(?P<q>{POINT}) ?<两点>的?<直线>的?斜率<是多少|为多少>",
        build.points("slope"),
    ),
    (
        rf"<求|计算><点> ?(?P<p>{POINT}) ?(和|与|到|"
        rf",) ?<点> ?(?P<q>{POINT}) ?<两点><之间>的?(距离)<是多少|为多少>",
        build.points("distance"),
    ),
    (rf"<求|计算> ?{B} ?的 ?{A}% ?{_ASK}?", build.numbers("percent_of")),
    (rf"{A} ?是 ?{B} ?的百分之几", build.numbers("share")),
    (rf"{A} ?占 ?{B} ?的百分之几", build.numbers("share")),
    (rf"<把 ?>{A} ?增加 ?{B}%<后>{_ASK}?", build.numbers("percent_change", 1)),
    (rf"<把 ?>{A} ?减少 ?{B}%<后>{_ASK}?", build.numbers("percent_change", -1)),
    (rf"<求|计算> ?{_LIST} ?的(最大公约数|最大公因数)<是多少|是几>", build.whole_list("gcd")),
    (rf"<求|计算> ?{_LIST} ?的最小公倍数<是多少|是几>", build.whole_list("lcm")),
    (rf"<求|计算> ?{_LIST} ?的平均数<是多少|是几>", build.listed("mean")),
    (rf"<求>(数列|等差数列|等比数列)[:, ]*{TERMS} ?的下一项<是多少|是几>", build.term),
    (
        rf"<求>(?P<family>等差|等比)?数列[:, ]*{TERMS} ?的第 ?(?P<n>\d{{1,6}}) ?项<是多少|是几>",
        build.term,
    ),
    (rf"<求><等差|等比>数列[:, ]*{TERMS} ?的(?P<what>公差|公比)<是多少>", build.step),
    (
        rf"<把 ?|将 ?>{A} ?(?P<f>{units.PATTERN}) ?(换算成|转换成|化成|转换为|换算为|等于多少|"
        rf"是多少|合多少) ?(?P<t>{units.PATTERN})",
        build.convert,
    ),
    (
        rf"(当|若|如果|已知) ?(?P<eqs>[^=]*=.+?)<时>[, ]+<则|那么> ?<求|计算><代数式|"
        rf"式子> ?(?P<e>[^=]+?) ?{_ASK}?",
        build.substitute,
    ),
    (rf"{_GIVEN} ?(?P<eqs>.+?)[,;. ]+(则|那么|求|求出) ?{_NAME} ?<= ?\??|{_ASK}>", build.solve),
    (
        rf"{_GIVEN} ?(?P<eqs>.+?)[,;. ]+(则|那么|求|求出)<代数式|式子> ?(?P<e>[^=]+?) ?{_ASK}?",
        build.wanted,
    ),
    (
        r"(求解|解|求)<下列|以下><关于 ?[a-z] ?的><一元一次|一元二次|二元一次|分式|无理>(方程组|"
        r"方程|不等式组|不等式)<的解|的根>[:, ]*(?P<eqs>[^\u4e00-\u9fff]+)",
        build.solve,
    ),
    (
        r"<求>(方程组|方程|不等式|一元二次方程) ?(?P<eqs>[^\u4e00-\u9fff]+?) ?的(解|根|"
        r"解集)<是什么|是多少|是>",
        build.solve,
    ),
    (rf"(求|求出) ?{_NAME}<的值>[:, ]+(?P<eqs>[^\u4e00-\u9fff]+)", build.solve),
    (rf"(?P<eqs>[^\u4e00-\u9fff]+?)[,;. ]+(求|则) ?{_NAME} ?<= ?\??|{_ASK}>", build.solve),
    (r"(展开|乘开)[:, ]*(?P<e>.+)", build.rewrite("expand")),
    (r"(因式分解|分解因式|把下式分解因式|分解下列因式)[:, ]*(?P<e>.+)", build.rewrite("factor")),
    (r"(把|将) ?(?P<e>.+?) ?(因式分解|分解因式)", build.rewrite("factor")),
    (r"(把|将) ?(?P<e>.+?) ?展开", build.rewrite("expand")),
    (r"(化简|合并同类项)[:, ]*(?P<e>.+)", build.rewrite("simplify")),
    (rf"(计算|求|求值|算一算|请计算)[:, ]*(?P<e>[^=]+?)< ?= ?\??| ?{_ASK}>", build.evaluate),
    (rf"(?P<e>[^=]+?) ?{_ASK}", build.evaluate),
]
