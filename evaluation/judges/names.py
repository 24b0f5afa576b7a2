"""Names that contain another's: South Korea is not Korea, and H2O2 is not H2O.

Judges look for the words of a reference in a row. `joined` makes one word of what belongs together
so that no part of it can be found; it is applied to answers and references alike.
"""

from __future__ import annotations

import re

# Each is found whatever the case, and becomes what stands beside it: one name for one thing, and
# one that has no other's words in it.
_NAMESAKES = tuple(
    (re.compile(rf"\b(?:{pattern})(?![\w-])", re.IGNORECASE), name)
    for pattern, name in (
        (
            r"(?:the )?democratic republic of (?:the )?congo|dr congo|drc|congo[- ]kinshasa",
            "Drcongo",
        ),
        (r"(?:the )?(?:republic of|south) korea", "Southkorea"),
        (r"guinea[- ]bissau", "Guineabissau"),
        (r"(?:the )?united states(?: of america)?|(?-i:U\.S\.A\.|U\.S\.|USA?)", "Unitedstates"),
        (r"(?:the )?netherlands|holland", "Netherlands"),
        (r"(?-i:St\.?(?= [A-Z]))", "Saint"),
        (r"(?:all|every one) of (?:the above|these|them|those)", "Allofthese"),
        (r"no one|nobody", "Nobody"),
    )
)

_DIRECTIONS = "North|South|East|West|Northern|Southern|Eastern|Western|New|Equatorial|Inner|Outer"
# A direction within a continent leads to no other thing ("Poland is in Eastern Europe"); but South
# Africa is a country, and the Americas are two.
_DIRECTED = re.compile(
    rf"\b(?!(?i:north|south|east|west|northern|southern|eastern|western)[ -](?:Europe|Asia)\b)"
    rf"(?!(?:North|East|West|Northern|Southern|Eastern|Western)[ -]Africa\b)"
    rf"({_DIRECTIONS})[ -](?=([A-Z][a-z]+))"
)
# What comes after a name and makes another thing of it: the Berlin Wall is not Berlin.
_THINGS = (
    "City|Canal|Memorial|Monument|Bridge|Tower|Conference|Treaty|Pact|Hilton|University|Airport"
    "|Commune|Empire|Agreement|Accords?|Protocol|Stadium|Museum|Gate|River|Falls|Sea|Bay|Gulf|Harbour"
    "|Harbor|Ocean|Islands?|Mountains?|Mount|Lake|Desert|Strait|Republic|War|Revolution|Dynasty|Peace"
    "|Battle|Union|Kingdom"
)
_THING = re.compile(rf"(?<=[a-z]) ([Ww]all|{_THINGS})\b")
_RELATIONS = (
    "son|daughter|father|mother|brother|sister|wife|husband|widow|uncle|aunt|cousin|nephew|niece"
    "|friend|teacher|student|pupil|assistant|successor|predecessor|rival|enemy|grandson"
    "|grandfather|mentor|secretary|deputy"
)
# Whose son it is, is not who it is.
_RELATED = re.compile(
    rf"(?P<name>(?:[A-Z]\w+ )*[A-Z]\w+)['’]s?(?= (?:\w+ )?(?:{_RELATIONS})\b)"
    rf"|\b(?P<relation>{_RELATIONS}) of (?P<whose>(?:[A-Z]\w+ ?)+)"
)
# "H2O" is found in no "H2O2": two or more elements, with a number. CO and CO2 as well.
_FORMULA = re.compile(r"\b(?=[A-Za-z]*[\d₀-₉])(?:[A-Z][a-z]?[\d₀-₉]{0,3}){2,8}\b")
_DIGITS = str.maketrans("0123456789₀₁₂₃₄₅₆₇₈₉", "אבגדהוזחטיאבגדהוזחטי")


# Words with a capital letter that make no other name: numbers of kings, and what begins a sentence.
_NO_NAME = r"(?:[IVX]+|Jr|Sr|The|Is|Was|And|In|He|She)\b"


def without_longer_names(reference: str, answer: str, question: str = "") -> str:
    """An answer without names that have a reference's in them: Martin Luther King, Gulf of Mexico.

    What a question asks for makes no other name: "the city of Rome" where cities are asked for.
    """
    reference = reference.strip(" .")
    if not re.fullmatch(r"[A-Z]\w+(?: [A-Z]\w+)*", reference):
        return answer
    name, asked = re.escape(reference), question.casefold()
    if " " in reference:
        answer = re.sub(rf"{name} (?!{_NO_NAME})(?=[A-Z][a-z])", "Another ", answer)
    return re.sub(
        rf"\b(?!Republic|Kingdom|Empire|City)({_THINGS}) of (?:the )?{name}\b",
        lambda m: m[0] if m[1].casefold() in asked else "Another",
        answer,
    )


def core(reference: str, question: str) -> str:
    """A name without the kind of thing that a question asks for: "Bering" for "Bering Strait"."""
    asked = re.findall(r"\w+", question.casefold())
    kinds = rf"\b(?:{_THINGS})\b"
    rest = re.sub(
        kinds, lambda m: "" if any(w.startswith(m[0].lower()) for w in asked) else m[0], reference
    )
    return re.sub(r"^\W*(?:of )?|\W+$", "", rest) or reference


def last_name(reference: str) -> str:
    """The last of two to four capitalized words, which alone is said of a person; or ""."""
    match = re.fullmatch(
        r"(?:[A-Z][\w.'’-]* (?:(?:de|da|di|van|von|of) ){0,2}){1,3}([A-Z]\w+)", reference
    )
    if match is None or re.fullmatch(rf"{_THINGS}", match[1]):
        return ""
    return match[1]


_TITLES = "Mr Mrs Miss Ms Dr Sir Lady Lord Count General Captain King Queen President Professor"


def says_last_name(reference: str, answer: str, question: str) -> str:
    """The last name of a reference if an answer has it without other names beside it, or ""."""
    name = last_name(reference.strip(" ."))
    if not name:
        return ""
    own = {word.casefold() for word in re.findall(r"\w+", f"{_TITLES} {reference} {question}")}
    for match in re.finditer(rf"(?:(\b[A-Z]\w+) )?\b{name}\b(?: ([A-Z]\w+))?", answer):
        first, after = match[1], match[2]
        if (first is None or first.casefold() in own) and not after:
            return name
    return ""


def joined(text: str, question: str = "") -> str:
    """A text in which a name that has another's words in it is one word.

    What a question asks for makes no other name: New York City is New York among cities.
    """
    asked = set(re.findall(r"\w+", question.casefold()))
    for pattern, name in _NAMESAKES:
        text = pattern.sub(name, text)
    text = _DIRECTED.sub(
        lambda m: m[0] if m[2].lower() in asked else m[1].lower().removesuffix("ern"), text
    )
    text = _THING.sub(lambda m: m[0] if m[1].lower() in asked else m[1].lower(), text)
    text = _RELATED.sub(_one_word, text)
    return _FORMULA.sub(lambda match: match[0].translate(_DIGITS), text)


def _one_word(match: re.Match[str]) -> str:
    if match["name"]:
        return match["name"].replace(" ", "") + "relative"
    return f"{match['relation']} of {match['whose'].replace(' ', '')}relative "
