"""Which part of an answer answers the question: what it says first, unless it says that elsewhere.

"Piazza San Marco is in Rome. The Canale Grande is in Venice." says Rome to "Where is Piazza San
Marco?", though Venice is in it. Each clause is weighed by the words of the question in it. A clause
that names something as an answer overrules later ones of less weight.
"""

from __future__ import annotations

import re
from functools import lru_cache

from evaluation.judges.text import FUNCTION_WORDS, is_number, stem, tokens

_CLAUSE_END = re.compile(
    r"(?<=[^\d\s][^\s.][.!?])\s+|(?<=\d[.!?])\s+(?=[A-Z])|(?<=[;\n])|,? (?=(?:but|whereas|while)\b)"
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|been|has|have|had|does|do|did|can|could|will|would|\w+(?:ed|[^s]s))\b",
    re.IGNORECASE,
)
_ANAPHOR = re.compile(r"\W*(?:it|he|she|they|this|that|these|those|its|his|her|their)\b", re.I)
# A name within a clause: its first word would have a capital letter anyway.
_NAME = re.compile(r"(?<=[\w,'’\"] )[A-Z]\w+")
_COPULA = re.compile(r"\b(?:is|are|was|were|be|called|named)\W+(?:the )?$", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:not|no|never|neither)\b|n['’]t\b", re.IGNORECASE)
# Of more words, a clause without a verb is no bare answer.
_BARE = 6


@lru_cache(maxsize=1024)
def deciding(question: str, answer: str, reference: str) -> str:
    """An answer without the clauses that others overrule.

    Args:
        reference: tells what counts as naming something: a number, or a name.
    """
    clauses = [clause for clause in _CLAUSE_END.split(answer) if clause and clause.strip()]
    if len(clauses) < 2:
        return answer
    asked = _matter(question) - _matter(reference)
    numeric = any(map(is_number, tokens(reference)))
    kept: list[str] = []
    most = inherited = 0
    for n, clause in enumerate(clauses):
        own = len(asked & _matter(clause))
        weight = own + (inherited if _ANAPHOR.match(clause) else 0)
        said = max(weight, _says_it(clause, reference))
        if said >= most:
            kept.append(clause)
        if n == 0 and _is_bare(clause):
            said = max(said, 1)
        if said > most and _names_something(clause, question, numeric, bare=n == 0):
            most = said
        inherited = weight
    return " ".join(kept)


def _says_it(clause: str, reference: str) -> int:
    """1 for a clause that is the reference, or says that something is."""
    at = clause.casefold().find(reference.casefold())
    if at < 0:
        return 0
    before = clause[:at]
    return int(bool(_COPULA.search(before)) or (not tokens(before) and _is_bare(clause)))


def _is_bare(clause: str) -> bool:
    return len(clause.split()) <= _BARE and not _VERB.search(clause)


def _names_something(clause: str, question: str, numeric: bool, bare: bool) -> bool:
    if _NEGATION.search(clause):  # "Not Sydney but Canberra"
        return False
    if numeric:
        known = set(tokens(question))
        return any(is_number(token) and token not in known for token in tokens(clause))
    if bare and _is_bare(clause):
        return bool(_matter(clause) - _matter(question))
    known = {word.casefold() for word in re.findall(r"\w+", question)}
    return any(name.casefold() not in known for name in _NAME.findall(clause))


def _matter(text: str) -> set[str]:
    """The words that carry meaning, stemmed."""
    return {stem(token) for token in tokens(text)} - FUNCTION_WORDS
