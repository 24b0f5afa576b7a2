"""Units with an exact conversion that is the same everywhere.

Gallons, tons, cups and months are missing because they differ from country to country.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from algebra.readings import UnclearError


@dataclass(frozen=True)
class Unit:
    """A unit as a multiple of the base unit of its quantity, counted from `zero`.

    Attributes:
        name: its spelling in answers.
        quantity: what it measures.
        size: its size in the base unit.
        zero: the zero of its scale, in the base unit.
    """

    name: str
    quantity: str
    size: Fraction
    zero: Fraction = Fraction(0)

    def called(self, amount: Fraction) -> str:
        """Its name after an amount: 1 foot, 2 feet."""
        if amount != 1 or not self.name.isalpha() or len(self.name) < 3:
            return self.name
        return {"feet": "foot", "inches": "inch"}.get(self.name) or self.name.removesuffix("s")


def _units() -> dict[str, Unit]:
    rows = [
        ("length", "1/1000", "mm", "millimeter millimetre 毫米"),
        ("length", "1/100", "cm", "centimeter centimetre 厘米"),
        ("length", "1/10", "dm", "decimeter decimetre 分米"),
        ("length", "1", "m", "meter metre 米"),
        ("length", "1000", "km", "kilometer kilometre 千米 公里"),
        ("length", "254/10000", "inches", "inch 英寸"),
        ("length", "3048/10000", "feet", "foot ft 英尺"),
        ("length", "9144/10000", "yards", "yard yd"),
        ("length", "1609344/1000", "miles", "mile 英里"),
        ("mass", "1/1000000", "mg", "milligram 毫克"),
        ("mass", "1/1000", "g", "gram 克"),
        ("mass", "1", "kg", "kilogram kilo 千克 公斤"),
        ("mass", "45359237/100000000", "pounds", "pound lb lbs 磅"),
        ("mass", "45359237/1600000000", "ounces", "ounce oz"),
        ("time", "1/1000", "ms", "millisecond 毫秒"),
        ("time", "1", "seconds", "second sec 秒 秒钟"),
        ("time", "60", "minutes", "minute min 分钟"),
        ("time", "3600", "hours", "hour 小时"),
        ("time", "86400", "days", "day 天"),
        ("time", "604800", "weeks", "week 周"),
        ("volume", "1/1000", "ml", "mL milliliter millilitre 毫升"),
        ("volume", "1/100", "cl", "centiliter centilitre"),
        ("volume", "1", "liters", "liter litre L l 升"),
        ("volume", "1000", "m^3", "m^(3) cubic_meter cubic_metre 立方米"),
        ("volume", "1/1000", "cm^3", "cm^(3) cubic_centimeter cubic_centimetre 立方厘米"),
        ("area", "1/10000", "cm^2", "cm^(2) square_centimeter square_centimetre 平方厘米"),
        ("area", "1", "m^2", "m^(2) square_meter square_metre 平方米"),
        ("area", "10000", "hectares", "hectare ha 公顷"),
        ("area", "1000000", "km^2", "km^(2) square_kilometer square_kilometre 平方千米 平方公里"),
        ("speed", "1", "m/s", "meters_per_second metres_per_second 米每秒 米/秒"),
        (
            "speed",
            "10/36",
            "km/h",
            "kilometers_per_hour kilometres_per_hour kph 千米每小时 千米/时",
        ),
        ("speed", "44704/100000", "mph", "miles_per_hour"),
        ("angle", "1", "degrees", "degree 度"),
    ]
    found: dict[str, Unit] = {}
    for quantity, size, name, others in rows:
        unit = Unit(name, quantity, Fraction(size))
        for word in [name, *others.split()]:
            word = word.replace("_", " ")
            found[word] = unit
            single = word.isascii() and word.isalpha() and len(word) > 3 and word[-1] != "s"
            if single or word.startswith(("square ", "cubic ")):
                found[word + "s"] = unit
    zeros = {"°C": "273.15", "K": "0"}
    for name, words in {
        "°C": ("celsius", "degrees celsius", "°c", "摄氏度"),
        "K": ("kelvin", "kelvins"),
    }.items():
        found.update(dict.fromkeys(words, Unit(name, "heat", Fraction(1), Fraction(zeros[name]))))
    fahrenheit = Unit("°F", "heat", Fraction(5, 9), Fraction("273.15") - 32 * Fraction(5, 9))
    found.update(dict.fromkeys(("fahrenheit", "degrees fahrenheit", "°f", "华氏度"), fahrenheit))
    return found


# All units by all of their names.
BY_NAME = _units()
_IN_ANY_CASE = frozenset(
    ["km", "kg", "cm", "ft", "yd", "lb", "lbs", "oz", "mph", "kph", "sec", "min", "°c", "°f"]
)
# For a regular expression; the longest first.
PATTERN = "|".join(map(re.escape, sorted(BY_NAME, key=len, reverse=True))).replace(r"\ ", " ")


def find(name: str) -> Unit:
    """Find a unit by name.

    The case of words does not matter. That of abbreviations does (Mg is not mg), except for those
    that are commonly written in capitals too.

    Raises:
        UnclearError: there is no such unit, or the name is ambiguous.
    """
    unit = BY_NAME.get(name)
    lower = name.lower()
    if unit is None and (len(name) > 3 or not name.isascii() or lower in _IN_ANY_CASE):
        unit = BY_NAME.get(lower)
    if unit is None:
        raise UnclearError(f"no unit {name!r}")
    return unit


def convert(amount: Fraction, old: Unit, new: Unit) -> Fraction:
    """Convert an amount. Raises UnclearError if the units measure different quantities."""
    if old.quantity != new.quantity:
        raise UnclearError(f"{old.name} and {new.name} measure different quantities")
    return (amount * old.size + old.zero - new.zero) / new.size
