"""Questions whose answer is yes or no, answered by either word or by a sentence.

"Penguins cannot fly." says No to "Can penguins fly?": what counts is whether the clause that speaks
of the question's matter is denied.
"""

from __future__ import annotations

import re

from evaluation.judges.text import ARTICLES, read, spelled, tokens
from evaluation.records import Item, Verdict

NAME = "yes or no"

_YES = frozenset({"yes", "true", "correct", "right", "是", "对", "是的", "对的", "正确"})
_NO = frozenset({"no", "false", "incorrect", "wrong", "否", "错", "不是", "不对", "错误"})
_HEDGE = r"\W*(?:(?:technically|actually|well|in fact|strictly speaking|probably|so)\W+)?"
_OPENING_YES = re.compile(
    _HEDGE + r"(?:yes|yeah|yep|true|correct|right|indeed|absolutely|certainly"
    r"|definitely(?! not)|of course(?! not)|sure"
    r"|(?:是|对)的?(?=\W|$)|正确|没错|当然(?!不))(?![a-z])"
)
_OPENING_NO = re.compile(
    _HEDGE
    + r"(?:no|nope|false|incorrect|wrong|never|not at all|definitely not|of course not|not really"
    r"|否|错|不是|不对|不(?=\W|$))(?![a-z])(?! (?:doubt|longer|one)\b)"
)
_BOTH = re.compile(
    r"\W*(?:yes|true)\W+(?:(?:and|or|but)\W+)?(?:no|false)\b(?!\W+(?:doubt|question))"
    r"|\W*(?:no|false)\W+(?:(?:and|or|but)\W+)?(?:yes|true)\b(?!-)"
)
_DENIAL = re.compile(
    r"\b(?:not(?! only)|cannot|\w+n't|cant|never|no longer|no|none|nobody|nothing|neither|nor"
    r"|false|untrue|incorrect|wrong|impossible|unable|incapable|myth|lacks?|without|fails? to)\b"
    r"|[不没非未无]"
)
# "Is it or is it not" denies nothing: 是不是, 能不能, 有没有.
_WHETHER = re.compile(r"(\w)[不没]\1")
_CLAUSE_END = re.compile(
    r"(?<=[^\d])[.!?](?=\s|$)|[,;:。！？，；]|\b(?:but|although|though|while)\b"
)
_SUBJECT = re.compile(r"\W*(?:they|it|he|she|this|that|there|you|one)\b")
_NOT = re.compile(r"\W*not\b")
_AUXILIARIES = "is are was were be do does did can could will would has have had not true false"
_OTHERS = "of in on at to it that this there you they he she and or if"
_EMPTY_WORDS = ARTICLES | frozenset(f"{_AUXILIARIES} {_OTHERS}".split())


def decides(reference: str) -> bool | None:
    """Whether a reference is a yes (True) or a no (False); None if it is neither."""
    word = spelled(reference).strip(" .。!！")
    return True if word in _YES else False if word in _NO else None


def judge(item: Item, answer: str, wanted: bool) -> Verdict:
    """Right if the answer says yes where that is wanted, and no where not."""
    said = says(item.question, answer)
    if said is None:
        return Verdict(False, 0.0, NAME, "says neither yes nor no")
    word = "yes" if said else "no"
    return Verdict(said == wanted, float(said == wanted), NAME, f"says {word}")


def says(question: str, answer: str) -> bool | None:
    """Whether an answer says yes or no to a question; None if neither or both."""
    text = spelled(answer)
    if _BOTH.match(text):
        return None
    if _OPENING_NO.match(text):
        return False
    if _OPENING_YES.match(text):
        return True
    if _names_another(question, answer):
        return False
    question = _WHETHER.sub(r"\1", spelled(question))
    asked = _matter(question)
    clauses = [clause for clause in _CLAUSE_END.split(text) if clause.strip()]
    # The last of those that say most of the matter: "Although they swim, penguins cannot fly".
    shares = [len(asked & _matter(clause)) for clause in clauses]
    best = max(shares, default=0)
    if best == 0:  # "They cannot."
        clause = clauses[0] if clauses else ""
        if not _SUBJECT.match(clause) or (_matter(clause) and not _DENIAL.search(clause)):
            return None
    else:
        clause = clauses[max(n for n, share in enumerate(shares) if share == best)]
        # "It lies in Asia, not in Africa."
        clause = next(
            (c for c, n in zip(clauses, shares, strict=True) if n and _NOT.match(c)), clause
        )
        if 2 * best < len(asked) and not _DENIAL.search(clause):
            return None  # it speaks of something else
    asked_denied = len(_DENIAL.findall(spelled(question))) % 2
    denied = len(_DENIAL.findall(clause)) % 2
    return denied == asked_denied


def _names_another(question: str, answer: str) -> bool:
    """Whether an answer has another name for the last of the question: French for English."""
    names = [word.form for word in read(question).words[1:] if word.capital]
    known = {*read(question).forms}
    others = [word for word in read(answer).words[1:] if word.capital and word.form not in known]
    return bool(names and others) and names[-1] not in read(answer).forms


def _matter(text: str) -> set[str]:
    """The words of a text that carry meaning, plurals as the singular."""
    words = {re.sub(r"(?<=[a-z]{3})s$", "", token) for token in tokens(text)}
    return words - _EMPTY_WORDS
