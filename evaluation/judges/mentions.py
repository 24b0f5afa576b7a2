"""Whether an answer that contains the right words also states them: not denied, not one of many."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile

from evaluation.judges.text import ARTICLES, folded, is_number, places

_NEGATIONS = (
    *(("not",), ("isnt",), ("cannot", "be"), ("except",)),
    *(("neither",), ("nor",), ("no", "longer"), ("不",), ("不", "是"), ("不", "叫")),
    *(("没", "有"), ("比",)),
)
# What need not be said: an aside, and that a year is after Christ.
_ASIDE = re.compile(r"[(（][^()（）]*[)）]|\b(?:AD|CE)(?!\w)")
_SEPARATOR = re.compile(r",(?!\d{3}\b)|[;/|、，；\n]|\b(?:or|and)\b|或|还是|以及|和", re.IGNORECASE)
_EITHER = re.compile(r"\W*(?:or\b|或|还是)|/", re.IGNORECASE)
_BOTH = re.compile(r"\W*and\b", re.IGNORECASE)
# "Between 1939 and 1945" states neither.
_BETWEEN = re.compile(r"\bbetween\s+(\S+(?:\s+\w+)?)\s+and\s+(?=\S*\d)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[^\d\s][.!?])\s+|(?<=[。！？])")
# "Ottawa is not the capital"; but "Ottawa, not Toronto" and "是北京不是上海" say the first.
_DENIAL = re.compile(
    r"(?:(?:is|was|are|were|would be|could) ?(?:not|nt)|cannot|cant|不 是"
    r"|[东南西北] [边面]"
    r"|的 (?:朋 友|儿 子|女 儿|弟 弟|哥 哥|父 亲|母 亲|妻 子|学 生|老 师))\b(?! only)"
    r"|(?:is|was|are|were|would be|seems?) (?:wrong|incorrect|false|untrue)\b"
)
_LINKS = (["are"], ["in"])
# An item of a list has at most this many tokens, its "and" included, and no word of a clause.
_SHORT = 4
_CLAUSE_WORDS = "is are was were has it that which who where in on at by with from 在"
_CLAUSE = frozenset(_CLAUSE_WORDS.split())
# An answer that names this many others beside the right one has not chosen.
_MANY = 3


def forms(reference: str, answer: str, read: Callable[[str], list[str]]) -> list[str]:
    """A reference, and the same without what it has in parentheses: that need not be said.

    A number in parentheses may be left out, but not replaced: an answer with other numbers is
    held to the whole reference.

    Args:
        reference: its text.
        answer: its text.
        read: makes tokens of either.
    """
    shorter = _ASIDE.sub(" ", reference)
    whole, kept = set(read(reference)), set(read(shorter))
    replaced = any(map(is_number, whole - kept)) and any(map(is_number, read(answer)))
    return [reference, shorter] if kept and kept < whole and not replaced else [reference]


def is_denied(whole: Sequence[str], at: int) -> bool:
    """Whether what begins at token `at` is preceded by "not" or the like."""
    return any(tuple(whole[max(0, at - len(no)) : at]) == no for no in _NEGATIONS)


def states(answer: str, reference: list[str]) -> bool:
    """Whether an answer contains a run of tokens and means it.

    It does not if every place is denied ("not Paris", "Paris is not"), in a list of `_MANY`
    others or more ("Paris, London, Berlin, Rome") or one side of an "or" ("Paris or London").

    Args:
        answer: its text.
        reference: its tokens, as `folded` makes them.
    """
    pieces, either, both = _pieces(_BETWEEN.sub(r"neither \1 nor ", answer))
    whole = [token for piece in pieces for token in piece]
    owner = [index for index, piece in enumerate(pieces) for _ in piece]
    for at in places(reference, whole):
        first, last = owner[at], owner[at + len(reference) - 1]
        end = at + len(reference)
        rest = [whole[n] for n in range(end, min(end + 3, len(whole))) if owner[n] == last]
        denied = _DENIAL.match(" ".join(rest)) and whole[at - 1 : at] != ["是"]
        asking = rest[:1] == ["吗"]
        if denied or asking or is_denied(whole, at):
            continue
        number = all(map(is_number, reference))
        # "Germany invaded Poland, France and Norway" does not list Germany.
        begins = at - owner.index(first) <= 1  # after "and" or the number of an item, say
        ends = end == len(whole) or owner[end] > last
        before = _bare(reversed(pieces[:first])) if begins else 0
        after = _bare(pieces[last + 1 :]) if ends else 0
        # "the Alps, the Pyrenees and the Andes are mountains": its last item has the clause.
        after += bool(before and ends and last + after + 1 in both)
        hedged = (before and first in either) or (after and last + 1 in either)
        if begins and ends:  # "in 1944 or 1945", "1944, 1945" say neither
            previous, following = pieces[first - 1 : first] or [[]], pieces[last + 1 : last + 2]
            beside = [
                *previous[0][-1:],
                *(t for piece in following if len(piece) == 1 for t in piece),
            ]
            hedged = hedged or any(map(_alike(reference[0]), beside))
        # "Italy and Greece" is not Italy; commas alone may say where it lies: "Paris, France".
        run = range(first - before, last + after + 1)
        if not number and begins and before + after and not both.isdisjoint(run):
            continue
        named = whole[at - 1 : at] in _LINKS  # "They are Italy and Greece"
        if named and after and last + 1 in both:
            continue
        if before + after < _MANY and not hedged:
            return True
    return False


def _alike(number: str) -> Callable[[str], bool]:
    """Tells numbers of as many characters, such as two years."""
    return lambda token: is_number(token) and len(token) == len(number)


def _pieces(answer: str) -> tuple[list[list[str]], set[int], set[int]]:
    """Tokens between separators; the indices of pieces that begin with "or", and with "and"."""
    pieces: list[list[str]] = []
    either: set[int] = set()
    both: set[int] = set()
    for sentence in _SENTENCE_END.split(answer):
        starts = [0, *(match.start() for match in _SEPARATOR.finditer(sentence))]
        for start, end in zip(starts, [*starts[1:], len(sentence)], strict=True):
            found = [token for token in folded(sentence[start:end]) if token not in ARTICLES]
            if found:
                if _EITHER.match(sentence, start):
                    either.add(len(pieces))
                elif _BOTH.match(sentence, start):
                    both.add(len(pieces))
                pieces.append(found)
    return pieces, either, both


def _bare(pieces: Iterable[list[str]]) -> int:
    """How many pieces at the beginning are mere items of a list."""
    return sum(1 for _ in takewhile(_is_bare, pieces))


def is_denied_after(whole: Sequence[str], end: int) -> bool:
    """Whether what ends before token `end` is followed by "is not" or the like."""
    return bool(_DENIAL.match(" ".join(whole[end : end + 3])))


def _is_bare(piece: list[str]) -> bool:
    return 0 < len(piece) <= _SHORT and _CLAUSE.isdisjoint(piece)
