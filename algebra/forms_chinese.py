"""The forms of exercises in Chinese, as in `forms`; punctuation is already ASCII."""

from __future__ import annotations

from algebra import units
from algebra.patterns import F2, MATRIX, TERMS, A, B, F, named, table
from algebra.phrases import NUMBER, POINT

LIST = rf"(?P<ns>{NUMBER}((, ?| ?[和与及] ?) ?{NUMBER})+)"
V = r"(?P<v>[A-Za-z]((, ?| ?[和与] ?)[A-Za-z])*)"
ASK = "(是多少|等于多少|等于几|是几|的值是多少|的值|的值为|的值是|的值等于多少|为多少|多少)"
GIVEN = "(如果|若|已知|设|当)"
FORMULA = r"[^\u4e00-\u9fff]+?"  # without Chinese characters
E, EQS = rf"(?P<e>{FORMULA})", rf"(?P<eqs>{FORMULA})"
IS = "<是多少|是几|为多少|是>"
POINTS = rf"<点> ?(?P<p>{POINT}) ?(和|与|到|,) ?<点> ?(?P<q>{POINT}) ?<两点>"

CHINESE = table(rf"""
of_function kind=domain: 求<函数> ?{E} ?的定义域
inverse_function: 求<函数> ?(?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?(?P<body>{FORMULA}) ?的反函数
of_function kind=vertex:
    求(抛物线|二次函数|函数) ?{E} ?的(?P<asked>顶点|对称轴|最大值|最小值)<坐标>
function: {GIVEN} ?{F}(?P<body>{FORMULA})[,;. ]+(则|那么|求|求出) ?{F2} ?<= ?\??|{ASK}>
of_function kind=discriminant: 求<方程> ?{E} ?的判别式
divide asked=remainder: <求> ?(?P<a>{FORMULA}) ?除以 ?(?P<b>{FORMULA}) ?的余(数|式){IS}
matrix: 求<矩阵> ?{MATRIX} ?的(?P<kind>行列式|逆矩阵|秩|特征值)
square_roots: <求> ?{named("e")} ?的平方根{IS}
points kind=slope: <求|计算><过|经过|通过|连接>{POINTS}的?<直线>的?斜率{IS}
points kind=line: 求<过|经过|通过>{POINTS}的?<直线>的?(直线方程|方程|解析式)
points kind=distance: <求|计算>{POINTS}<之间>的?距离{IS}

percent_of: <求|计算> ?{B} ?的 ?{A}% ?<{ASK}|是>
numbers kind=share: {A} ?[是占] ?{B} ?的百分之几
percent_change: <把 ?>{A} ?(?P<way>增加|减少) ?{B}%<后>{ASK}?
whole_list kind=gcd: <求|计算> ?{LIST} ?的(最大公约数|最大公因数){IS}
whole_list kind=lcm: <求|计算> ?{LIST} ?的最小公倍数{IS}
listed kind=mean: <求|计算> ?{LIST} ?的平均数{IS}
ratio: 化简比[:, ]*(?P<a>\d{{1,9}}) ?: ?(?P<b>\d{{1,9}})
form_of_number kind=as_fraction: (把|将) ?{E} ?化(成|为)<最简>分数
form_of_number kind=as_decimal: (把|将) ?{E} ?化(成|为)小数
form_of_number kind=as_percent: (把|将) ?{E} ?化(成|为)百分数
term: <求>(数列|等差数列|等比数列)[:, ]*{TERMS} ?的下一项{IS}
term: <求>(?P<family>等差|等比)?数列[:, ]*{TERMS} ?的第 ?(?P<n>\d{{1,6}}) ?项{IS}
step: <求><等差|等比>数列[:, ]*{TERMS} ?的(?P<what>公差|公比){IS}
convert: <把 ?|将 ?>{A} ?(?P<f>{units.PATTERN}) ?\
    (换算成|转换成|化成|转换为|换算为|等于多少|是多少|合多少) ?(?P<t>{units.PATTERN})

substitute: (当|若|如果|已知) ?(?P<eqs>[^=]*=.+?)<时>[, ]+<则|那么> ?<求|计算>\
    <代数式|式子> ?(?P<e>[^=]+?)< ?= ?\??| ?{ASK}>
solve: {GIVEN} ?(?P<eqs>.+?)[,;. ]+(则|那么|求|求出) ?{V} ?<= ?\??|{ASK}>
wanted: {GIVEN} ?(?P<eqs>.+?)[,;. ]+(则|那么|求|求出)<代数式|式子> ?(?P<e>[^=]+?)< ?= ?\??| ?{ASK}>
solve: (求解|解|求)<下列|以下><关于 ?(?P<v>[a-z]) ?的><一元一次|一元二次|二元一次|分式|无理>\
    ((?P<system>方程组|不等式组)|方程|不等式)<的解|的根>[:, ]*{EQS}
solve: <求>(方程组|方程|不等式|一元二次方程) ?{EQS} ?\
    的(解|根|解集|实数根|实数解)<是什么|是多少|是|为>
solve: (求|求出) ?{V}<的值>[:, ]+{EQS}
solve: {EQS}[,;. ]+(求|则) ?{V} ?<= ?\??|{ASK}>

rewrite kind=expand: (展开|乘开)[:, ]*(?P<e>.+)
rewrite kind=factor: (因式分解|分解因式|把下式分解因式|分解下列因式)[:, ]*(?P<e>.+)
rewrite kind=factor: (把|将) ?(?P<e>.+?) ?(因式分解|分解因式)
rewrite kind=expand: (把|将) ?(?P<e>.+?) ?展开
rewrite kind=simplify: (化简|合并同类项)[:, ]*(?P<e>.+)
evaluate: (计算|求|求值|算一算|请计算)[:, ]*(?P<e>[^=]+?)< ?= ?\??| ?{ASK}>
evaluate: (?P<e>[^=]+?) ?{ASK}
""")
