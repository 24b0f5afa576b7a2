"""Quantities with units, so that 1000 m is 1 km, 212 °F is 100 °C and a quarter is 25 %."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from algebra.words import with_english_digits as with_digits
from algebra.words import without_separators
from evaluation.judges.text import spelled

# Names of each unit, what it measures and how many of the first of its kind it is.
_UNITS = (
    ("m metre metres meter meters", "length", "1"),
    ("km kilometre kilometres kilometer kilometers kms", "length", "1000"),
    ("cm centimetre centimetres centimeter centimeters", "length", "0.01"),
    ("mm millimetre millimetres millimeter millimeters", "length", "0.001"),
    ("mile miles mi", "length", "1609.344"),
    ("foot feet ft", "length", "0.3048"),
    ("inch inches", "length", "0.0254"),
    ("yard yards yd", "length", "0.9144"),
    ("kg kilogram kilograms kilo kilos", "mass", "1"),
    ("g gram grams", "mass", "0.001"),
    ("mg milligram milligrams", "mass", "0.000001"),
    ("tonne tonnes", "mass", "1000"),
    ("pound pounds lb lbs", "mass", "0.45359237"),
    ("ounce ounces oz", "mass", "0.028349523125"),
    ("s sec secs second seconds", "time", "1"),
    ("min mins minute minutes", "time", "60"),
    ("h hr hrs hour hours", "time", "3600"),
    ("day days", "time", "86400"),
    ("week weeks", "time", "604800"),
    ("l litre litres liter liters", "volume", "1"),
    ("ml millilitre millilitres milliliter milliliters", "volume", "0.001"),
    ("cm^3 cubic@centimetres cubic@centimeters", "volume", "0.001"),
    ("m^3 cubic@metres cubic@meters", "volume", "1000"),
    ("m^2 square@metres square@meters sq@m", "area", "1"),
    ("cm^2 square@centimetres square@centimeters sq@cm", "area", "0.0001"),
    ("km^2 square@kilometres square@kilometers sq@km", "area", "1000000"),
    ("hectare hectares ha", "area", "10000"),
    ("m/s metres@per@second meters@per@second", "speed", "1"),
    ("km/h kph kmh kilometres@per@hour kilometers@per@hour km@per@hour", "speed", "5/18"),
    ("mph miles@per@hour", "speed", "0.44704"),
    ("dollar dollars usd", "dollars", "1"),
    ("cent cents", "dollars", "0.01"),
    ("% percent per@cent", "share", "1/100"),
    ("half halves", "share", "1/2"),
    ("third thirds", "share", "1/3"),
    ("quarter quarters", "share", "1/4"),
    ("fifth fifths", "share", "1/5"),
    ("tenth tenths", "share", "1/10"),
    ("°c degrees@celsius degrees@centigrade celsius", "temperature", "1"),
    ("°f degrees@fahrenheit fahrenheit", "temperature", "5/9"),
)
_KINDS = {
    name.replace("@", " "): (kind, Fraction(factor))
    for names, kind, factor in _UNITS
    for name in names.split()
}
_NAMES = "|".join(sorted(map(re.escape, _KINDS), key=len, reverse=True))
_QUANTITY = re.compile(
    rf"(?<![\w.,/^])(?P<dollars>\$\s?)?(?P<number>-?\d{{1,15}}(?:\.\d{{1,15}})?(?:/\d{{1,9}})?)"
    rf"(?:(?P<gap>[\s-]*)(?P<unit>{_NAMES})(?![\w/^²³]))?"
)
# The unit of what is given in two: neither.
_PARTS = ("", Fraction(0))
_BETWEEN_PARTS = re.compile(r"\s*(?:,|and)?\s*")
# "Half" and "a quarter" are one of them.
_ONE = re.compile(
    r"(?<![\d-] )(?<![\d-])\b(?:(?:an? )?(?=half\b)|an? (?=(?:third|quarter|fifth|tenth)\b))"
)
# Of a value in another unit: references are rounded.
_NEAR = Fraction(1, 1000)
_FAHRENHEIT_ZERO = Fraction(-160, 9)  # in degrees Celsius


@dataclass(frozen=True)
class Quantity:
    """A number with a unit: what it measures, how much in the first unit of its kind, the unit."""

    kind: str
    value: Fraction
    unit: tuple[str, Fraction]


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
    if not alike or all(each.unit == wanted.unit for each in alike):
        alone = quantity(answer)
        return False if alone and alone.kind != wanted.kind else None
    last = alike[-1]
    exact = wanted.unit == last.unit
    gap = abs(last.value - wanted.value)
    return gap == 0 if exact else gap <= _NEAR * abs(wanted.value)


def _plain(text: str) -> str:
    text = with_digits(without_separators(spelled(without_separators(text))))
    return _ONE.sub("1 ", re.sub(r"°\s+(?=[cf]\b)", "°", text))


def _found(text: str) -> list[tuple[Quantity, int, int]]:
    found: list[tuple[Quantity, int, int]] = []
    for match in _QUANTITY.finditer(text):
        name = match["unit"] or ("dollars" if match["dollars"] else "")
        decade = name == "s" and not match["gap"] and len(match["number"]) == 4  # the 1980s
        if not name or decade or match["number"].endswith("/0"):
            continue
        unit = _KINDS[name]
        try:
            value = Fraction(match["number"]) if "/" not in match["number"] else _ratio(match)
        except (ValueError, ZeroDivisionError):
            continue
        value *= unit[1]
        if unit == ("temperature", Fraction(5, 9)):
            value += _FAHRENHEIT_ZERO
        kind, start = unit[0], match.start()
        if found:  # "1 hour and 30 minutes", but "30 minutes, 1 hour"
            before, first, end = found[-1]
            part = before.kind == kind != "temperature" and before.unit[1] > unit[1]
            if part and _BETWEEN_PARTS.fullmatch(text[end:start]):
                found[-1] = (Quantity(kind, before.value + value, _PARTS), first, match.end())
                continue
        found.append((Quantity(kind, value, unit), start, match.end()))
    return found


def _ratio(match: re.Match[str]) -> Fraction:
    number, _, divisor = match["number"].partition("/")
    return Fraction(number) / int(divisor)
