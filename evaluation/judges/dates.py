"""Dates, eras, times of day and currencies: what makes one of them another must be as it is wanted.

"June 4, 1776" has all numbers of "July 4, 1776", "44 AD" of "44 BC", "£5" of "$5".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from algebra.words import with_digits, with_ordinals
from evaluation.judges.text import spelled

_MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august"]
_MONTHS += ["september", "october", "november", "december"]
_MONTH = "|".join(rf"{name[:3]}(?:{name[3:]})?" if name[3:] else name for name in _MONTHS)
_YEAR = r"(?P<year>\d{3,4})"
_DATE = re.compile(
    rf"\b(?:(?P<month>{_MONTH})\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,? {_YEAR})?(?![\d:])"
    rf"|(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<month2>{_MONTH})\.?"
    r"(?:,? (?P<year2>\d{3,4}))?"
    rf"|(?P<month3>{_MONTH})\.?,? (?:of )?(?P<year3>\d{{3,4}})"
    r"|(?P<year4>\d{4})[-/](?P<month4>\d{1,2})[-/](?P<day4>\d{1,2})"
    r"|(?<![\d/.-])(?P<month6>\d{1,2})(?P<dash>[/.-])(?P<day6>\d{1,2})(?P=dash)(?P<year6>\d{4})"
    r"|(?:(?P<year5>\d{2,4})年)?(?P<month5>\d{1,2})月(?:初?(?P<day5>\d{1,2})(?:(?<=初\d)|(?<=初10)|[日号]))?)"
)
_BEFORE_CHRIST = r"(?:b\.? ?c\.?(?: ?e\.?)?|before christ)(?!\w)"
_ERA = re.compile(
    r"(?<![\d.,])(?P<before>公元前 ?)?(?P<year>\d{1,4})(?![\d,.]\d)"
    rf"(?: ?(?P<bc>{_BEFORE_CHRIST}))?"
)
_PERIOD = re.compile(
    rf"(?:the )?(?:(?P<century>\d{{1,2}})(?:st|nd|rd|th)[ -]century|(?P<century2>\d{{1,2}})世纪"
    rf"|(?P<decade>\d{{3}}0)'?s\b)(?: (?P<bc>{_BEFORE_CHRIST}))?"
)
_CLOCK = re.compile(
    r"(?<![\d:.])(?P<hour>\d{1,2})(?:[:.](?P<minute>\d{2}))?(?![\d:])"
    r"(?: ?(?P<half>[ap])\.?m\b\.?)?"
)
_CURRENCIES = {
    "$": ("$", "dollar", "dollars", "usd"),
    "£": ("£", "pound", "pounds", "gbp"),
    "€": ("€", "euro", "euros", "eur"),
    "¥": ("¥", "yen", "yuan", "rmb", "元"),
}
_MONEY = re.compile(
    r"(?P<sign>[$£€¥]) ?\d(?![^\s$]*\$)|\d(?: (?:thousand|million|billion|trillion))?(?: us)? ?"
    r"(?P<word>dollars?|pounds?|euros?|yen|yuan|usd|gbp|eur|rmb|元)(?!\w)"
)


@dataclass(frozen=True)
class Date:
    """A day, or a month; None for what is not said."""

    year: int | None
    month: int
    day: int | None

    def is_in(self, other: Date) -> bool:
        """Whether this is another date, told as exactly or more exactly."""
        return self.month == other.month and all(
            wanted is None or wanted == said
            for wanted, said in ((other.year, self.year), (other.day, self.day))
        )


def contradicts(reference: str, answer: str) -> bool:
    """Whether an answer gives another date, era or currency than a reference."""
    wanted, said = _plain(reference), _plain(answer)
    days, told = _dates(wanted), _dates(said)
    if len(days) == 1 and told and not any(_agree(date, days[0]) for date in told):
        return True
    return _another_era(wanted, said) or _another_currency(wanted, said)


def same_date(reference: str, answer: str) -> bool:
    """Whether a reference is a date, and the answer gives that and no other."""
    wanted = _plain(reference).strip(" .。")
    told = _dates(_plain(answer))
    if not _DATE.fullmatch(wanted) or not told:
        return False
    return all(_agree(date, _dates(wanted)[0]) for date in told)


def within(reference: str, answer: str) -> bool | None:
    """Whether a year that an answer gives is in the century or decade that a reference is.

    None if the reference is neither, or the answer gives no year.
    """
    match = _PERIOD.fullmatch(_plain(reference).strip(" .。"))
    said = _plain(answer)
    years = [(int(year), bc) for year, bc in _eras(_PERIOD.sub(" ", said)) if len(year) >= 3]
    if match is None:
        return None
    before_christ = bool(match["bc"])
    first, last = _span(match)
    periods = [(_span(found), bool(found["bc"])) for found in _PERIOD.finditer(said)]
    if periods:  # "the 1200s" are the 13th century, but for a year
        return all(
            abs(start - first) + abs(end - last) <= 2 and bc == before_christ
            for (start, end), bc in periods
        )
    if not years:
        return None
    return all(first <= year <= last and bc == before_christ for year, bc in years)


def _span(match: re.Match[str]) -> tuple[int, int]:
    if match["decade"] and match["decade"].endswith("00"):
        return int(match["decade"]), int(match["decade"]) + 99
    if match["decade"]:
        return int(match["decade"]), int(match["decade"]) + 9
    number = int(match["century"] or match["century2"])
    return 100 * number - 99, 100 * number


def same_time(reference: str, answer: str) -> bool | None:
    """Whether an answer gives the time of day that a reference is; None if that is none."""
    match = _CLOCK.fullmatch(_plain(reference).strip(" "))
    if match is None or not match["half"]:
        return None
    told = [found for found in _CLOCK.finditer(_plain(answer)) if found["half"] or found["minute"]]
    if not told:
        return None
    return any(_minutes(found) & _minutes(match) for found in told[-1:])


def _plain(text: str) -> str:
    return _with_clock(" ".join(with_digits(with_ordinals(spelled(text))).split()))


def _with_clock(text: str) -> str:
    """A text in which times of day are digits: half past 5 in the afternoon is 5:30 pm."""
    text = re.sub(r"\bhalf past (\d{1,2})\b", r"\1:30", text)
    text = re.sub(r"\bquarter past (\d{1,2})\b", r"\1:15", text)
    text = re.sub(r"(?<=\d) o'clock\b", "", text)
    text = re.sub(r"(?<=\d) in the morning\b", " am", text)
    return re.sub(r"(?<=\d) in the (?:afternoon|evening)\b", " pm", text)


def _agree(said: Sequence[Date], wanted: Sequence[Date]) -> bool:
    """Whether a date is another, in some reading of both."""
    return any(one.is_in(other) for one in said for other in wanted)


def _dates(text: str) -> list[list[Date]]:
    """The dates of a text, each with its readings: 6/7/1944 has two."""
    found = []
    for match in _DATE.finditer(text):
        parts = {name.rstrip("23456"): value for name, value in match.groupdict().items() if value}
        month = parts["month"]
        number = int(month) if month.isdigit() else 1 + [m[:3] for m in _MONTHS].index(month[:3])
        year, day = parts.get("year"), parts.get("day")
        date = Date(int(year) if year else None, number, int(day) if day else None)
        turned = Date(date.year, int(day), number) if match["day6"] and day else date
        found.append([date, turned])
    return found


def _eras(text: str) -> list[tuple[str, bool]]:
    """Years, with whether they are before Christ."""
    return [
        (match["year"].lstrip("0"), bool(match["bc"] or match["before"]))
        for match in _ERA.finditer(text)
    ]


def _another_era(wanted: str, said: str) -> bool:
    told = _eras(said)
    return any((year, not bc) in told and (year, bc) not in told for year, bc in _eras(wanted))


def _another_currency(wanted: str, said: str) -> bool:
    one, other = _currencies(wanted), _currencies(said)
    return len(one) == 1 and bool(other) and not one & other


def _currencies(text: str) -> set[str]:
    words = [match["sign"] or match["word"] for match in _MONEY.finditer(text)]
    return {sign for sign, names in _CURRENCIES.items() for word in words if word in names}


def _minutes(match: re.Match[str]) -> set[int]:
    """The minutes of a day that a time may be."""
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    if match["half"]:
        return {60 * (hour % 12 + (12 if match["half"] == "p" else 0)) + minute}
    return {60 * hour + minute} | ({60 * (hour + 12) + minute} if 1 <= hour < 12 else set())
