"""Questions with choices: right if the answer says the right choice and no other.

A letter is a choice only where the question shows lettered choices: who was never shown that A is
London does not mean London by it. An answer that names several choices, in one list or in a
sentence each, has chosen none.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from dataclasses import replace

from evaluation.judges import math
from evaluation.judges.decision import deciding
from evaluation.judges.mentions import is_denied
from evaluation.judges.text import FUNCTION_WORDS, YES_NO, has_han, places, read, spelled, tokens
from evaluation.records import Item, Verdict

NAME = "choice"

# What comes after one of these is what the answer comes down to.
_CONCLUSION = re.compile(
    r"(?:answer|choice|option) (?:is|would be|must be)\b|(?:answer|choice|option):"
    r"|答案应?(?:是|为|:)|应?该?选择?:?(?=\W*[a-h]\b)"
)
_BARE_LETTER = re.compile(r"\W*([a-h])\W*")
# A letter within a text must look like one, or "a" would be found everywhere. Repeated, for "A, B".
_LETTER = re.compile(
    r"\W*(?:(?:and|or|option|choice)\W+|[和或])*\(?([a-h])"
    r"(?:\)|[.:,;、](?=\s|$|[^\w\s])|\s*$|(?=\s+(?:because|and|or)\b|[和或、]))"
)
_CAPITAL = re.compile(
    r"\(([A-H])\)|(?:\b(?:is|option|choice|answer|choose|pick|select|guess|say)|选)"
    r"\s*:?\s*\(?([A-H])\b(?!')|\b([A-H]) (?:is|would be|could be|may be|might be|seems)\b"
    r"(?! (?:not|wrong|incorrect|false))"
)
# An answer in other words says a choice if it has this share of the words that no other choice has,
# more of its characters in Chinese, and twice the share of any other. A choice must have this many
# of its own.
_ENOUGH, _ENOUGH_CHARACTERS, _LONG = 0.5, 0.6, 4


def judge(item: Item, answer: str, without_choices: Callable[[Item, str], Verdict]) -> Verdict:
    """Right if the answer says a right choice, by its letter or as a fact, and no other.

    Args:
        without_choices: judges an answer to a question that shows no choices.
    """
    choices = list(item.choices)
    right = _right(item, choices)
    conclusions = _conclusions(answer)
    letters: set[int] = set()
    if shows_letters(item):
        for conclusion in conclusions:
            letters |= _by_letter(conclusion, len(choices))
        letters = letters or _by_letter(spelled(answer), len(choices), answer)
    references = tuple(choices[n] for n in sorted(right))
    fact = without_choices(replace(item, choices=(), references=references), answer)
    clauses = deciding(item.question, answer, references[0])
    decisive = " ".join(conclusions or [clause.text for clause in clauses])
    # A worked solution may name other choices on its way.
    named = set() if fact.judge == math.NAME else _by_text(decisive, choices)
    shares = _shares(decisive, choices, item.question)
    others = (named | letters) - right
    if others:
        return Verdict(False, fact.score, NAME, f"says {_names(others, choices)}")
    best = max(shares[n] for n in right)
    alone = all(share <= best / 2 for n, share in enumerate(shares) if n not in right)
    enough = _ENOUGH_CHARACTERS if any(map(has_han, references)) else _ENOUGH
    if fact.judge != math.NAME and not fact.correct and alone and best >= enough:
        return Verdict(True, best, NAME, f"is nearest to {_names(right, choices)}")
    if letters or (named and not any(map(tokens, references))):
        return Verdict(True, 1.0, NAME, f"says {_names(letters | named, choices)}")
    return fact


def _right(item: Item, choices: list[str]) -> set[int]:
    """Indices of the right choices; a reference that is neither choice nor letter is added."""
    right: set[int] = set()
    for reference in item.references:
        same = {n for n, choice in enumerate(choices) if spelled(choice) == spelled(reference)}
        same = same or {n for n, c in enumerate(choices) if read(c).forms == read(reference).forms}
        letter = _BARE_LETTER.fullmatch(spelled(reference))
        index = string.ascii_lowercase.index(letter[1]) if letter else len(choices)
        if not same and index < len(item.choices):
            same = {index}
        if not same:
            choices.append(reference)
            same = {len(choices) - 1}
        right |= same
    return right


_SHOWN = re.compile(r"(?<![^\W_])([A-H]) ?[).:、．][ \t]*(?=\S)")


def shown(question: str) -> tuple[str, ...]:
    """The lettered choices that a question shows: "A) shark B) dolphin"; () if it shows none."""
    marks = list(_SHOWN.finditer(question))
    if len(marks) < 2 or [mark[1] for mark in marks] != list(string.ascii_uppercase[: len(marks)]):
        return ()
    ends = [mark.start() for mark in marks[1:]] + [len(question)]
    texts = [question[m.end() : end].strip(" ,;\n") for m, end in zip(marks, ends, strict=True)]
    return tuple(texts) if all(texts) else ()


def shows_letters(item: Item) -> bool:
    """Whether a question shows its choices with letters: "A. London B. Paris"."""
    question = " ".join(spelled(item.question).split())
    return all(
        re.search(
            rf"(?<![^\W_]){letter} ?[).:、,] ?{re.escape(' '.join(spelled(choice).split()))}",
            question,
        )
        for letter, choice in zip(string.ascii_lowercase, item.choices, strict=False)
    )


def _conclusions(answer: str) -> list[str]:
    """What comes after "the answer is" and the like, each to the next."""
    text = spelled(answer)
    marks = list(_CONCLUSION.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [text[mark.end() : end] for mark, end in zip(marks, ends, strict=False)]


def _by_text(text: str, choices: list[str]) -> set[int]:
    """Choices whose text is in an answer; a longer one hides those within it."""
    wanted = [read(choice).forms for choice in choices]
    # "<" and ">" or "x + 1" and "x - 1" differ in nothing but signs.
    symbols = not all(wanted) or len(set(map(tuple, wanted))) < len(wanted)
    if symbols:
        wanted = [read(choice, symbols).forms for choice in choices]
    reading = read(text, symbols)
    whole = list(reading.forms)
    found: dict[int, int] = {}
    for index in sorted(range(len(choices)), key=lambda n: -len(wanted[n])):
        for at in places(wanted[index], whole):
            if not is_denied(reading, at, at + len(wanted[index])):
                found.setdefault(index, at)
            whole[at : at + len(wanted[index])] = [""] * len(wanted[index])
    if all(spelled(choice).strip() in YES_NO for choice in choices):
        return {min(found, key=lambda n: found[n])} if found else set()
    return set(found)


def _shares(text: str, choices: list[str], question: str) -> list[float]:
    """The share of each choice's own words that is in a text; 0.0 if it has few."""
    for choice in choices:  # where the question shows them
        question = question.replace(choice, " ")
    known = FUNCTION_WORDS.union(read(question).forms)
    words = [set(read(choice).forms) - known for choice in choices]
    said = set(read(text).forms)
    shares = []
    for n, own in enumerate(words):
        own = own.difference(*words[:n], *words[n + 1 :])
        shares.append(len(own & said) / len(own) if len(own) >= _LONG else 0.0)
    return shares


def _by_letter(text: str, n_choices: int, capitals: str = "") -> set[int]:
    """The choices whose letters a text begins with: "B", "(B)", "B. ", "A, B or C".

    Args:
        text: in its one spelling.
        capitals: the same in its own, to be searched for "I choose B" and the like.
    """
    letters: list[str] = []
    at = 0
    if match := _BARE_LETTER.fullmatch(text):
        letters.append(match[1])
    else:
        while match := _LETTER.match(text, at):
            letters.append(match[1])
            at = match.end()
        letters += ["".join(found) for found in _CAPITAL.findall(capitals)]
    indices = {string.ascii_lowercase.index(letter.casefold()) for letter in letters}
    return indices if max(indices, default=n_choices) < n_choices else set()


def _names(indices: set[int], choices: list[str]) -> str:
    return ", ".join(f'"{choices[n]}"' for n in sorted(indices))
