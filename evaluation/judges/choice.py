"""Questions with choices: right if the answer says the right choice and no other."""

from __future__ import annotations

import re
import string

from evaluation.judges.mentions import is_denied
from evaluation.judges.text import ARTICLES, YES_NO, places, spelled, tokens, without
from evaluation.records import Item, Verdict

NAME = "choice"

# What comes after the last of these is what the answer comes down to.
_CONCLUSION = re.compile(
    r"(?:answer|choice|option) (?:is|would be|must be)\b|(?:answer|choice|option):"
    r"|答案应?(?:是|为|:)|应?该?选择?:?(?=\W*[a-h]\b)"
)
_BARE_LETTER = re.compile(r"\W*([a-h])\W*")
# A letter within a text must look like one, or "a" would be found everywhere.
_LETTER = re.compile(r"\W*(?:option |choice )?\(?([a-h])(?:\)|[.:,;](?=\s|$)|\s*$|\s+because\b)")
_CAPITAL = re.compile(r"\(([A-H])\)|(?:\b(?:is|option|choice|answer)|选)\s*:?\s*\(?([A-H])\b(?!')")


def judge(item: Item, answer: str) -> Verdict:
    """Right if the answer says a right choice, by its text or its letter, and no other."""
    choices = list(item.choices)
    right = _right(item, choices)
    said = _said(answer, choices)
    correct = bool(said) and said <= right
    if not said:
        reason = "says no choice"
    elif correct:
        reason = f"says {_names(said, choices)}"
    elif said & right:
        reason = f"says {_names(said & right, choices)}, but {_names(said - right, choices)} too"
    else:
        reason = f"says {_names(said, choices)}"
    return Verdict(correct, float(correct), NAME, reason)


def _right(item: Item, choices: list[str]) -> set[int]:
    """Indices of the right choices; a reference that is neither choice nor letter is added."""
    right: set[int] = set()
    for reference in item.references:
        same = {n for n, choice in enumerate(choices) if spelled(choice) == spelled(reference)}
        same = same or {n for n, c in enumerate(choices) if _tokens(c) == _tokens(reference)}
        letter = _BARE_LETTER.fullmatch(spelled(reference))
        index = string.ascii_lowercase.index(letter[1]) if letter else len(choices)
        if not same and index < len(item.choices):
            same = {index}
        if not same:
            choices.append(reference)
            same = {len(choices) - 1}
        right |= same
    return right


def _said(answer: str, choices: list[str]) -> set[int]:
    """Indices of the choices that an answer says."""
    text = spelled(answer)
    ends = [match.end() for match in _CONCLUSION.finditer(text)]
    conclusion = text[ends[-1] :] if ends else text
    return (
        _by_text(conclusion, choices)
        or _by_letter(answer, conclusion, len(choices))
        or _by_text(text, choices)
    )


def _by_text(text: str, choices: list[str]) -> set[int]:
    """Choices whose text is in an answer; a longer one hides those within it."""
    wanted = [_tokens(choice) for choice in choices]
    # "<" and ">" or "x + 1" and "x - 1" differ in nothing but signs.
    symbols = not all(wanted) or len(set(map(tuple, wanted))) < len(wanted)
    if symbols:
        wanted = [_tokens(choice, symbols) for choice in choices]
    whole = _tokens(text, symbols)
    found: dict[int, int] = {}
    for index in sorted(range(len(choices)), key=lambda n: -len(wanted[n])):
        for at in places(wanted[index], whole):
            if not is_denied(whole, at):
                found.setdefault(index, at)
            whole[at : at + len(wanted[index])] = [""] * len(wanted[index])
    if all(spelled(choice).strip() in YES_NO for choice in choices):
        return {min(found, key=lambda n: found[n])} if found else set()
    return set(found)


def _by_letter(answer: str, conclusion: str, n_choices: int) -> set[int]:
    """The choice whose letter an answer gives: "B", "(B)", "B. ", "选B", "The answer is B"."""
    match = _BARE_LETTER.fullmatch(conclusion) or _LETTER.match(conclusion)
    letters = [match[1]] if match else [a or b for a, b in _CAPITAL.findall(answer)]
    indices = {string.ascii_lowercase.index(letter.casefold()) for letter in letters}
    return indices if max(indices, default=n_choices) < n_choices else set()


def _tokens(text: str, symbols: bool = False) -> list[str]:
    return without(ARTICLES, tokens(text, symbols))


def _names(indices: set[int], choices: list[str]) -> str:
    return ", ".join(f'"{choices[n]}"' for n in sorted(indices))
