"""One spelling for names that have several, and the parts of names that stand for the whole."""

from __future__ import annotations

import re

from evaluation.judges.text import FUNCTION_WORDS, is_number, read

# Each is found whatever the case, and becomes what stands beside it.
_NAMESAKES = tuple(
    (re.compile(rf"\b(?:{pattern})(?![\w-])", re.IGNORECASE), name)
    for pattern, name in (
        (
            r"(?:the )?democratic republic of (?:the )?congo|dr congo|drc|congo[- ]kinshasa",
            "Drcongo",
        ),
        (r"(?:the )?republic of korea", "South Korea"),
        (r"(?:the )?united states(?: of america)?|(?-i:U\.S\.A\.|U\.S\.|USA?)", "Unitedstates"),
        (r"(?:the )?netherlands|holland", "Netherlands"),
        (r"(?:all|every one) of (?:the above|these|them|those)", "Allofthese"),
        (r"(?-i:Mt\.?(?= [A-Z]))", "Mount"),
        (r"no one|nobody", "Nobody"),
    )
)
# Two to four capitalized words, the last of which may be said alone.
_NAME = re.compile(r"(?:[A-Z][\w.'’-]* (?:(?:de|da|di|van|von|of) ){0,2}){1,3}([A-Z]\w+)")

# "On the island of Crete", "the city of York".
_KIND = re.compile(
    r"^(?:(?:on|in) )?(?:the )?(?:island|city|town|state|province|country|continent) of (?=[A-Z])",
    re.IGNORECASE,
)
_INITIALS = re.compile(r" \(([A-Z]{2,6})\)")
# Letters of a name that may be written in one word and in several.
_LEAST, _MOST = 6, 40


def joined(answer: str, reference: str) -> str:
    """An answer in which a name is spaced as in the reference: "May Flower" for "Mayflower"."""
    letters = re.sub(r"[\W_]", "", reference)
    if not (_LEAST <= len(letters) <= _MOST and letters.isalpha() and letters.isascii()):
        return answer
    pattern = rf"\b(?!{re.escape(reference)}\b){'[ -]?'.join(letters)}\b"
    return re.sub(pattern, reference, answer, flags=re.IGNORECASE)


def unified(text: str) -> str:
    """A text in which names that have several spellings have one."""
    for pattern, name in _NAMESAKES:
        text = pattern.sub(name, text)
    return text


def acronym(reference: str, answer: str) -> list[str]:
    """The initials of a name of several words, such as WWI or UN, if an answer has them.

    What a reference has in parentheses may be others: "Internal Revenue Service (IRS)".
    """
    if given := _INITIALS.search(reference):
        return [given[1]]
    words = [w for w in re.findall(r"\w+", reference) if w not in FUNCTION_WORDS]
    initials = "".join(w if w.isupper() or w.isdigit() else w[0] for w in words)
    said = len(words) > 1 and initials.isupper() and re.search(rf"\b{initials}\b", answer)
    return [initials] if said else []


def parts(reference: str, question: str) -> list[list[str]]:
    """The stems of what may be said for a whole name.

    These are the last name ("Lincoln"), and the name without words of the question ("Bering" for
    the Bering Strait, among straits) or without an epithet ("Constantine the Great").
    """
    asked = read(question).forms
    name = _KIND.sub("", re.sub(r"(?<=\w) the [A-Z]\w+$", "", reference))
    forms = read(name).forms
    core = [form for form in forms if not any(known.startswith(form) for known in asked)]
    full = _NAME.fullmatch(reference.strip(" ."))
    last = read(full[1]).forms if full else []
    found = [core[core[:1] == ["of"] :]] + [last] * (last != [] and last[0] not in asked)
    return [
        part
        for part in found
        if not FUNCTION_WORDS.issuperset(part) and not all(map(is_number, part))
    ]
