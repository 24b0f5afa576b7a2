"""Whether a text that contains the right words also states them.

It does not if they are denied ("not Paris", "Paris is not"), a part of another name ("New
Mexico", "the Berlin Wall"), one of several candidates ("Paris or London"), or if something else is
the answer ("Guatemala borders Mexico", "near Sydney", "more than 24").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import takewhile

from evaluation.judges.decision import is_negative, opening_name
from evaluation.judges.text import FUNCTION_WORDS, Reading, Word, is_number, places, read, stem

# What need not be said: an aside, and that a year is after Christ.
_ASIDE = re.compile(r"[(（][^()（）]*[)）]|\b(?:AD|CE)(?!\w)")

# --- denials ----------------------------------------------------------------------

_DENIED = re.compile(
    r"\b(?:not|never|neither|nor|except|excluding|no longer|anything but)\b(?! only)"
    r"(?:(?!\b(?:but|until)\b)[^,;:])*$|(?:不|不是|不叫|没有|比)$"
)
_DENYING = re.compile(
    r"\s?(?:(?:is|was|are|were|would be|could|can) not\b(?! only)"
    r"|(?:is|was|are|were|would be|seems?) (?:wrong|incorrect|false|untrue)\b"
    r"|不是|[东南西北][边面]|的(?:朋友|儿子|女儿|弟弟|哥哥|父亲|母亲|妻子|学生|老师))"
)
# Places in a clause that are looked at.
_MOST = 20
_ASKING = re.compile(r"\W?\?|吗")
# 以前, 之后: before or after what is mentioned.
_NOT_AT = re.compile(r"\W?[以之][前后]")

# --- what stands in the answer's place --------------------------------------------

_RELATIONS = (
    "son|daughter|father|mother|brother|sister|wife|husband|widow|uncle|aunt|cousin|nephew|niece"
    "|friend|teacher|student|pupil|assistant|successor|predecessor|rival|enemy|grandson"
    "|grandfather|mentor|secretary|deputy|neighbou?r|ally|capital"
)
# What follows one of these is not given as the answer.
_BESIDE = re.compile(
    r"\b(?:near|than|like|besides?|between|beyond|unlike|until|(?:(?:north|south|east|west)\w*"
    rf"|outside|instead|{_RELATIONS}) of|(?:next|similar|close|opposed) to|far from"
    r"|used to be|formerly|mistaken for|with)"
    r"(?: (?:the|a|an|it is|it was))? $"
)
_OWNING = re.compile(rf"’ (?:\w+ )?(?:{_RELATIONS})\b")
# Before an adjective that describes the name after it: "the Russian novelist Leo Tolstoy".
_DESCRIPTION = re.compile(r"\b(?:the|an?|by|was|is) $")
# Before a number that is only a bound.
_BOUND = re.compile(
    r"\b(?:(?:more|less|fewer|later|earlier) than|at (?:least|most)|up to|before|after) \W?$"
    r"|\bbetween\b[^,;]{1,40}\band $"
)
_RANGE = re.compile(r"\s?[-–—/]\s?\d")
_SHARE = " percent"
_FROM_TO = re.compile(r" to \d")
# Between a name and another that it explains: "Venice, Italy", "was first, Buzz Aldrin second".
_LINK = re.compile(
    r"^[^(\w]*(?:(?:in|of|to) (?:the )?)?$|[,;:] (?:and )?(?:the )?$"
    r"|\b(?:is|are|was|were|be|called|named|name|known as)\W+(?:the )?$"
)

# --- names that go on -------------------------------------------------------------

_TITLES = "mr mrs miss ms dr sir lady lord count general captain king queen emperor president"
TITLES = frozenset(map(stem, f"{_TITLES} professor saint pope duke".split()))
_STATES = frozenset(map(stem, ["kingdom", "republic", "state", "commonwealth", "federation"]))
# Words that change which thing a name means.
DIRECTIONS = frozenset(["north", "south", "east", "west", "new"])
_PARTICLES = frozenset(["of", "van", "von", "de", "da", "di"])
_OF = re.compile(r" of (?:the )?")

# --- lists ------------------------------------------------------------------------

_SEPARATOR = re.compile(
    r"([,;/|、，；\n。！？]\s*(?:(?:and|or)\b|[和或])?|(?<!\d)[.!?]\s|\b(?:or|and)\b|或|还是|以及|和)"
)
_AND = re.compile(r"\band\b|和|以及|、.+、")
_EITHER = re.compile(r"or|或|还是|/")
# An item of a list has at most this many words, and no word of a clause.
_SHORT = 3
_CLAUSE_WORDS = "is are was were has it that which who where in on at by with from 在"
_CLAUSE = frozenset(_CLAUSE_WORDS.split())
# What comes before the first item of a list.
_LEADS = frozenset(["is", "are", "was", "were", "be", "in", "either"])
# An answer that names this many others beside the right one has not chosen.
_MANY = 2


def forms(reference: str, answer: str, tokens: Callable[[str], list[str]]) -> list[str]:
    """A reference, and the same without what it has in parentheses: that need not be said.

    A number in parentheses may be left out, but not replaced: an answer with other numbers is
    held to the whole reference.

    Args:
        reference: its text.
        answer: its text.
        tokens: makes tokens of either.
    """
    shorter = _ASIDE.sub(" ", reference)
    whole, kept = set(tokens(reference)), set(tokens(shorter))
    replaced = any(map(is_number, tokens(answer))) and any(map(is_number, whole - kept))
    replaced = replaced and not any(map(is_number, kept))
    return [reference, shorter] if kept and kept < whole and not replaced else [reference]


def states(
    clauses: Sequence[Reading],
    wanted: list[str],
    question: str = "",
    whole: list[str] | None = None,
) -> bool:
    """Whether clauses contain a run of words and mean it as the answer to a question.

    Args:
        wanted: the stems of the words.
        whole: those of the name of which they are a part: no other may stand in its place.
    """
    return any(
        not is_denied(clause, at, at + len(wanted), question)
        and _stands_for_itself(clause, at, at + len(wanted), question)
        and _is_chosen(clause, at, at + len(wanted))
        and not (whole and _is_namesake(clause, at, at + len(wanted), whole, read(question)))
        for clause in clauses
        for at in places(wanted, clause.forms)[:_MOST]
    )


def is_denied(clause: Reading, at: int, end: int, question: str = "") -> bool:
    """Whether what the words from `at` to `end` say is denied or asked."""
    before, after = clause.before(at), clause.after(end)
    if _ASKING.match(after) or _NOT_AT.match(after):
        return True
    if is_negative(question):
        return False
    return bool(_DENIED.search(before) or (_DENYING.match(after) and not before.endswith("是")))


def _stands_for_itself(clause: Reading, at: int, end: int, question: str) -> bool:
    """Whether a mention is not a bound, beside something else or part of a longer name."""
    before, after = clause.before(at), clause.after(end)
    asked = read(question)
    if all(map(is_number, clause.forms[at:end])):
        if _FROM_TO.match(after) and not before.endswith("from "):
            return False
        if after.startswith(_SHARE) and _SHARE not in asked.text:
            return False
        return not (_BOUND.search(before) or _RANGE.match(after))
    beside = _BESIDE.search(before)
    pair = "and" in clause.forms[at:end]  # may well stand after "between"
    if beside and not pair and beside[0].split()[0] not in asked.forms:
        return False
    return not (
        _OWNING.match(after)
        or (
            after.startswith("’") and any(is_foreign(w, asked) for w in clause.words[end : end + 4])
        )
        or _goes_on(clause, at, end, asked)
        or _has_rival(clause, at, end, asked)
    )


def _goes_on(clause: Reading, at: int, end: int, asked: Reading) -> bool:
    """Whether words are part of a longer name.

    The kind of thing that the question asks for does not count: "the Tigris River".
    """
    words = clause.words
    person = "who" in asked.forms
    goes_on = end < len(words) and clause.between(end) in (" ", "-", " the ")
    if goes_on and not (person and end - at == 1) and words[end].capital:
        title = words[end].form in TITLES - {*asked.forms}
        if title or is_foreign(words[end], asked):
            return True
    if _is_of(clause, at):
        return is_foreign(words[at - 2], asked)
    before = words[at - 1] if at and _adjoin(clause, at) else None
    if before is None or not before.capital or before.form not in DIRECTIONS:
        return False
    # Where the question has the direction, it may be the kind of thing, but "East Timor" is a name.
    return before.form not in asked.forms or bool(places(clause.forms[at - 1 : end], asked.forms))


def _is_namesake(clause: Reading, at: int, end: int, whole: list[str], asked: Reading) -> bool:
    """Whether a part of a name belongs to another: Martha Washington, Washington Irving."""
    words = clause.words
    while at and words[at - 1].form in _PARTICLES:
        at -= 1
    beside = words[at - 1 : at] if at and _adjoin(clause, at) else []
    beside += words[end : end + 1] if end < len(words) and _adjoin(clause, end) else []
    other = any(word.form not in whole and is_foreign(word, asked) for word in beside)
    return other or clause.after(end).startswith(" of ")


def is_foreign(word: Word, asked: Reading) -> bool:
    """Whether a word belongs to a name that is not in the question."""
    return (
        word.capital
        and word.form not in FUNCTION_WORDS | TITLES | _STATES
        and not any(known.startswith(word.form) for known in asked.forms)
    )


def _is_of(clause: Reading, at: int) -> bool:
    """Whether a capitalized word and "of" stand before a word: "Gulf of Mexico"."""
    words = clause.words
    if at < 2 or not words[at - 2].capital:
        return False
    return bool(_OF.fullmatch(clause.text, words[at - 2].end, words[at].start))


def _adjoin(clause: Reading, at: int) -> bool:
    """Whether only a space or a hyphen separates a word from the one before it."""
    return clause.between(at) in (" ", "-")


def _has_rival(clause: Reading, at: int, end: int, asked: Reading) -> bool:
    """Whether another name, which is not in the question, comes first and is the answer instead."""
    words = clause.words
    if clause.before(at).endswith("(") and clause.after(end).startswith(")"):
        return False
    first, own = opening_name(clause), clause.forms[at:end]
    while at and ((_adjoin(clause, at) and words[at - 1].capital) or _is_of(clause, at)):
        at -= 1 + _is_of(clause, at)
    rivals = [
        n
        for n in range(at)
        if (n or first)
        and words[n].form not in own
        and is_foreign(words[n], asked)
        and not (n and _adjoin(clause, n) and words[n - 1].form in asked.forms)
        and not is_denied(clause, n, n + 1)
    ]
    if not rivals:
        return False
    last = rivals[-1] + 1
    plain = not any(w.capital or (w.form in FUNCTION_WORDS - _PARTICLES) for w in words[last:at])
    if plain and _DESCRIPTION.search(clause.before(last - 1)):
        return False
    return not _LINK.search(clause.text[words[last - 1].end : words[at].start])


def _is_chosen(clause: Reading, at: int, end: int) -> bool:
    """Whether the words from `at` to `end` are not listed together with other candidates."""
    head, tail = _SEPARATOR.split(clause.before(at)), _SEPARATOR.split(clause.after(end))
    lead, ends = read(head.pop()).forms, not read(tail.pop(0)).forms
    longest = max(_SHORT, end - at + 1)

    def items(signs: list[str], pieces: list[str]) -> list[str]:
        """The separators of the items that come first."""
        forms = [read(piece).forms for piece in pieces[: _MANY + 1]]
        bare = [0 < len(piece) <= longest and _CLAUSE.isdisjoint(piece) for piece in forms]
        return [sign for sign, _ in takewhile(lambda each: each[1], zip(signs, bare, strict=False))]

    before = items(head[::-2], head[-2::-2]) if len(lead) <= 1 else []
    after = items(tail[::2], tail[1::2]) if ends else []
    if _EITHER.search("".join([*before, *head[-1:], *after[:1]] if len(lead) <= 1 else after[:1])):
        return False
    number = len(clause.forms[at]) if all(map(is_number, clause.forms[at:end])) else 0
    if number and ends and len(lead) <= 1:  # "in 1944, 1945"
        beside = read(head[-2]).forms[-1:] if head and not lead else []
        beside += read(tail[1]).forms if tail and len(read(tail[1]).forms) == 1 else []
        if any(is_number(form) and len(form) == number for form in beside):
            return False
    # In "Germany invaded Poland, France and Norway", Germany is not listed.
    if not ends and not _AND.search("".join(head[-1:])):
        before = []
    if len(lead) > 1 and lead[-1] not in _LEADS:
        after = []
    # The last item may go on: "the Alps, the Pyrenees and the Andes are mountains".
    more = tail[2 * len(after) :][:1] if before and ends else []
    own = clause.text[clause.words[at].start : clause.words[end - 1].end]
    if _AND.search("".join(before + after + more)) or (before + after and _AND.search(own)):
        return bool(number)
    return len(before + after) < _MANY
