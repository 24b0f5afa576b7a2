"""Quantities with units, so that 1000 m is 1 km, 212 °F is 100 °C and a quarter is 25 %."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from algebra import units
from algebra.units import Unit
from algebra.words import with_english_digits as with_digits
from algebra.words import without_separators
from evaluation.judges.text import spelled

# Names that only answers use: short forms, money, shares.
_OTHERS = (
    ("kms", "km"),
    ("mi", "miles"),
    ("secs", "seconds"),
    ("s", "seconds"),
    ("mins", "minutes"),
    ("h hr hrs", "hours"),
    ("sq@m", "m^2"),
    ("sq@cm", "cm^2"),
    ("sq@km", "km^2"),
    ("kmh km@per@hour", "km/h"),
    ("degrees@centigrade", "celsius"),
)
_KINDS = {name.lower(): unit for name, unit in units.BY_NAME.items()} | {
    name.replace("@", " "): units.BY_NAME[unit] for names, unit in _OTHERS for name in names.split()
}
for _names, _quantity, _size in (
    ("tonne tonnes", "mass", "1000"),
    ("dollar dollars usd", "dollars", "1"),
    ("cent cents", "dollars", "1/100"),
    ("% percent per@cent", "share", "1/100"),
    ("half halves", "share", "1/2"),
    ("third thirds", "share", "1/3"),
    ("quarter quarters", "share", "1/4"),
    ("fifth fifths", "share", "1/5"),
    ("tenth tenths", "share", "1/10"),
):
    for _name in _names.split():
        _unit = Unit(_names.split()[0], _quantity, Fraction(_size))
        _KINDS[_name.replace("@", " ")] = _unit
_NAMES = "|".join(sorted(map(re.escape, _KINDS), key=len, reverse=True))
_QUANTITY = re.compile(
    rf"(?<![\w.,/^])(?P<dollars>\$\s?)?(?P<number>-?\d{{1,15}}(?:\.\d{{1,15}})?(?:/\d{{1,9}})?)"
    rf"(?:(?P<gap>[\s-]*)(?P<unit>{_NAMES})(?![\w/^²³]))?"
)
# The unit of a quantity that is given in two units.
_PARTS = Unit("", "", Fraction(0))
_BETWEEN_PARTS = re.compile(r"\s*(?:,|and)?\s*")
# "Half" and "a quarter" are one of them.
_ONE = re.compile(
    r"(?<![\d-] )(?<![\d-])\b(?:(?:an? )?(?=half\b)|an? (?=(?:third|quarter|fifth|tenth)\b))"
)
# Of a value in another unit: references are rounded.
_NEAR = Fraction(1, 1000)


@dataclass(frozen=True)
class Quantity:
    """A number with a unit: what it measures, how much in the first unit of its kind, the unit."""

    kind: str
    value: Fraction
    unit: Unit


def quantities(text: str) -> list[Quantity]:
    """All quantities of a text in their order; "5 feet 10 inches" is one."""
    return [quantity for quantity, _, _ in _found(_plain(text))]


def quantity(text: str) -> Quantity | None:
    """The quantity that a text is and nothing else, or None."""
    plain = re.sub(r"^(?:about|around|approximately|x =|=) ", "", _plain(text).strip(" ."))
    found = _found(plain)
    return found[0][0] if len(found) == 1 and found[0][1:] == (0, len(plain)) else None


def converted(wanted: Quantity, answer: str) -> bool | None:
    """Whether the last quantity of an answer that is given in another unit is the wanted one.

    None if there is none: other judges know better then.
    """
    alike = [each for each in quantities(answer) if each.kind == wanted.kind]
    if not alike or alike[-1].unit == wanted.unit:
        alone = quantity(answer)
        return False if alone and alone.kind != wanted.kind else None
    last = alike[-1]
    return abs(last.value - wanted.value) <= _NEAR * abs(wanted.value)


def asks_for(question: str, unit: Unit) -> bool:
    """Whether a question says in which unit the answer must be."""
    names = "|".join(re.escape(name) for name, each in _KINDS.items() if each == unit)
    return bool(names and re.search(rf"\b(?:to|in|into|many) (?:{names})(?!\w)", _plain(question)))


def _plain(text: str) -> str:
    text = with_digits(without_separators(spelled(without_separators(text))))
    return _ONE.sub("1 ", re.sub(r"°\s+(?=[cf]\b)", "°", text))


def _found(text: str) -> list[tuple[Quantity, int, int]]:
    found: list[tuple[Quantity, int, int]] = []
    for match in _QUANTITY.finditer(text):
        name = match["unit"] or ("dollars" if match["dollars"] else "")
        number, _, divisor = match["number"].partition("/")
        if not name or divisor.strip("0") == "" != divisor:
            continue
        unit = _KINDS[name]
        value = Fraction(number) / int(divisor or 1) * unit.size + unit.zero
        kind, start = unit.quantity, match.start()
        if found:  # "1 hour and 30 minutes", but "30 minutes, 1 hour"
            before, first, end = found[-1]
            part = before.kind == kind != "heat" and before.unit.size > unit.size
            if part and _BETWEEN_PARTS.fullmatch(text[end:start]):
                found[-1] = (Quantity(kind, before.value + value, _PARTS), first, match.end())
                continue
        found.append((Quantity(kind, value, unit), start, match.end()))
    return found
