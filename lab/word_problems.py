"""Exercises in algebra that tell a story, with answers that sympy works out."""

from __future__ import annotations

from lab.draw import Draw, Exercise

_PEOPLE_NAMED = ["Ana", "Ben", "David", "Emma", "Farid", "Grace", "Hugo", "Ines", "Kenji", "Mei"]
_GOODS = {
    "apple": "apples",
    "ball": "balls",
    "brush": "brushes",
    "cup": "cups",
    "kite": "kites",
    "lamp": "lamps",
    "mango": "mangoes",
    "plant": "plants",
    "ruler": "rulers",
    "scarf": "scarves",
    "sandwich": "sandwiches",
    "ticket": "tickets",
}
_DEAR = ["bag", "bicycle", "camera", "chair", "coat", "guitar", "jacket", "phone", "table", "watch"]
_MOVERS = ["A bus", "A car", "A cyclist", "A ferry", "A lorry", "A plane", "A ship", "A tram"]


def average(draw: Draw) -> Exercise:
    numbers = [draw.number(1, 30) for _ in range(draw.rng.randint(2, 5))]
    total, n = sum(numbers), len(numbers)
    mean = draw.sympy.Rational(total, n)
    listed = ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
    question = draw.one_of("What is the average of {}?", "Find the mean of {}.").format(listed)
    steps = f"({' + '.join(map(str, numbers))})/{n} = {total}/{n}"
    return question, f"{steps}, so {mean}."


def speed(draw: Draw) -> Exercise:
    speed, hours, mover = draw.number(3, 24) * 5, draw.number(2, 9), draw.one_of(*_MOVERS)
    way = speed * hours
    kind = draw.rng.randrange(3)
    if kind == 0:
        question = f"{mover} travels {way} km in {hours} hours. What is its average speed?"
        return question, f"{way}/{hours} = {way / hours}, so {way / hours} km/h."
    if kind == 1:
        question = f"{mover} travels at {speed} km/h for {hours} hours. How far does it go?"
        return question, f"{speed}*{hours} = {way}, so {way} km."
    question = f"{mover} travels {way} km at {speed} km/h. How many hours does it take?"
    return question, f"{way}/{speed} = {way / speed}, so {way / speed} hours."


def unit_price(draw: Draw) -> Exercise:
    price, n, m = draw.number(2, 12), draw.number(2, 9), draw.number(2, 12)
    m = m if m != n else m + 1
    goods = draw.one_of(*_GOODS.values())
    question = f"{n} {goods} cost ${n * price}. How much do {m} {goods} cost?"
    return question, f"{n * price}/{n} = {price} and {price}*{m} = {price * m}, so ${price * m}."


def ratio(draw: Draw) -> Exercise:
    a = draw.number(1, 7)
    b = draw.other_than(a, 1, 9)
    common = draw.sympy.gcd(a, b)
    a, b, k = a / common, b / common, draw.number(2, 12)
    if draw.one_of(True, False):
        question = f"Simplify the ratio {a * k}:{b * k}."
        return question, f"{k} divides both {a * k} and {b * k}, so {a}:{b}."
    first, second = draw.rng.sample(_PEOPLE_NAMED, 2)
    whole = (a + b) * k
    question = f"{first} and {second} share ${whole} in the ratio {a}:{b}. How much does each get?"
    return question, f"{whole}/({a} + {b}) = {k}, so {first} ${a * k} and {second} ${b * k}."


def shop(draw: Draw) -> Exercise:
    (one, many), (two, lots) = draw.rng.sample(list(_GOODS.items()), 2)
    p, q, n, m = draw.number(2, 12), draw.number(2, 9), draw.number(2, 9), draw.number(2, 9)
    costs = f"{'An' if one[0] == 'a' else 'A'} {one} costs ${p} and "
    costs += f"{'an' if two[0] == 'a' else 'a'} {two} costs ${q}."
    total = p * n + q * m
    question = f"{costs} How much do {n} {many} and {m} {lots} cost?"
    return question, f"{p}*{n} + {q}*{m} = {total}, so ${total}."


def change(draw: Draw) -> Exercise:
    name, goods = draw.one_of(*_PEOPLE_NAMED), draw.one_of(*_GOODS.values())
    p, n = draw.number(2, 9), draw.number(2, 8)
    money = p * n + draw.number(1, 30)
    question = f"{name} has ${money} and buys {n} {goods} at ${p} each. How much money is left?"
    return question, f"{money} - {p}*{n} = {money - p * n}, so ${money - p * n}."


def saving(draw: Draw) -> Exercise:
    x, name, thing = draw.symbol, draw.one_of(*_PEOPLE_NAMED), draw.one_of(*_DEAR)
    week, has, weeks = draw.number(4, 20), draw.number(5, 60), draw.number(3, 14)
    price = has + week * weeks
    question = (
        f"{name} has ${has} and saves ${week} a week. A {thing} costs ${price}."
        f" After how many weeks can {name} buy it?"
    )
    found = draw.root(week * x + has, price)
    return question, f"({price} - {has})/{week} = {price - has}/{week} = {found}, so {found} weeks."


def think_of_a_number(draw: Draw) -> Exercise:
    x, name = draw.symbol, draw.one_of(*_PEOPLE_NAMED)
    a, b, k = draw.number(2, 9), draw.nonzero(-12, 12), draw.number(2, 15)
    does = f"adds {b}" if b > 0 else f"subtracts {-b}"
    result = a * k + b
    question = (
        f"{name} thinks of a number, multiplies it by {a} and {does}."
        f" The result is {result}. What is the number?"
    )
    steps = f"{draw.text(a * x + b)} = {result}, {draw.text(a * x)} = {result - b}"
    return question, f"{steps}, so {draw.root(a * x + b, result)}."


def ages(draw: Draw) -> Exercise:
    x, (old, young) = draw.symbol, draw.rng.sample(_PEOPLE_NAMED, 2)
    years, age = draw.number(2, 9), draw.number(5, 20)
    total = 2 * age + years
    question = (
        f"{old} is {years} years older than {young}. Together they are {total}. How old is {young}?"
    )
    found = draw.root(2 * x + years, total)
    return question, f"({total} - {years})/2 = {total - years}/2 = {found}, so {found}."


def rectangle(draw: Draw) -> Exercise:
    x, width, more = draw.symbol, draw.number(2, 15), draw.number(1, 9)
    around = 2 * (width + width + more)
    question = (
        f"A rectangle is {more} cm longer than it is wide. Its perimeter is {around} cm."
        " How wide is it?"
    )
    found = draw.root(4 * x + 2 * more, around)
    return question, f"({around} - 2*{more})/4 = {found}, so {found} cm."


def consecutive(draw: Draw) -> Exercise:
    x, first, n = draw.symbol, draw.number(1, 40), draw.number(2, 3)
    total = n * first + n * (n - 1) / 2
    counted = {2: "two", 3: "three"}[int(n)]
    question = f"The sum of {counted} consecutive numbers is {total}. What is the smallest of them?"
    equation = n * x + n * (n - 1) / 2
    return question, f"{draw.text(equation)} = {total}, so {x} = {draw.root(equation, total)}."


def price_change(draw: Draw) -> Exercise:
    price, rate, thing = draw.number(2, 30) * 20, draw.number(1, 10) * 5, draw.one_of(*_DEAR)
    up = draw.one_of(True, False)
    change = draw.sympy.Rational(rate, 100) * price
    new = price + change if up else price - change
    does = "goes up" if up else "is reduced"
    question = f"A {thing} costs ${price} and its price {does} by {rate}%. What is the new price?"
    steps = f"{rate}/100 * {price} = {change} and {price} {'+' if up else '-'} {change} = {new}"
    return question, f"{steps}, so ${new}."
