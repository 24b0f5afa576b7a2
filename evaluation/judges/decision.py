"""Which clauses of an answer decide.

"Piazza San Marco is in Rome. The Canale Grande is in Venice." says Rome to "Where is Piazza San
Marco?", though Venice is in it. So each clause is weighed by the words of the question in it, and a
clause that names something as an answer overrules others of less weight.
"""

from __future__ import annotations

import re
from functools import lru_cache

from evaluation.judges.text import FUNCTION_WORDS, Reading, places, read, stem

_CLAUSE_END = re.compile(
    r"(?:(?<=\w\w\w[.!?])|(?<=[A-Z][A-Z]\.))\s+(?=[^a-z])|(?<=[;\n])|(?<=\w:)\s"
    r"|(?<!nything),? (?=(?:but|whereas|while|although|though)\b)"
)
# Who says so is no answer: "According to The New York Times, ...".
_SOURCE = re.compile(r"\b[Aa]ccording to [^,.;\n]{1,80}, ")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_WORD = re.compile(r"\w")
_PRONOUNS = "it he she they this that these those its his her their"
_ANAPHORS = frozenset(_PRONOUNS.split())
_NEGATION = re.compile(r"\b(?:not|no|never|neither)\b")
_VERB = re.compile(r"\b(?:is|are|was|were|be|been|has|have|had|does|do|did|can|could|will|would)\b")
_COPULAS = frozenset(["is", "are", "was", "were", "be", "called", stem("named")])
# "Many people think it is Sydney, but it is Canberra."
_OPINION = re.compile(r"\b(?:thinks?|believes?|assumes?|says?|often|sometimes)\b")
_CONTRAST = re.compile(r"\W*(?:but|however|in fact|actually)\b")
# Clauses that overrule those before them.
_CORRECTION = re.compile(r"^\W*(?:actually|wait|correction|sorry)\b")
_CONCLUSION = re.compile(
    r"^\W*(?:so|therefore|thus|hence|in conclusion|所以|因此)\b"
    r"|\banswer (?:is|was|would be|must be)\b|答案"
)
# Capitalized words at the beginning of a clause that are not names.
_ADVERBS = "yes no none not according however today"
_OPENERS = FUNCTION_WORDS.union(map(stem, _ADVERBS.split()))
_PREPOSITIONS = frozenset(["by", "in", "on", "at", "to", "of", "from", "for", "with", "under"])
# Clauses after this many are not read.
_MOST_CLAUSES = 100
# A bare answer has at most this many words and no verb.
_BARE = 6
# Clauses of at most this many words are the items of a list.
_ITEM = 2
# A bare answer weighs more than a sentence that has one word of the question.
_BARE_WEIGHT = 1.5
# What "it is Lima" adds to the weight of a clause.
_SAYING = 2.0


@lru_cache(maxsize=1024)
def deciding(question: str, answer: str, reference: str) -> list[Reading]:
    """The clauses of an answer that no other overrules.

    Args:
        reference: tells what counts as naming something.
    """
    wanted = read(reference).forms
    asked = matter(read(question)) - matter(read(reference))
    known = set(read(question).forms)
    said = _SOURCE.sub("", answer)
    clauses = [read(clause) for clause in _CLAUSE_END.split(said) if _WORD.search(clause)]
    del clauses[_MOST_CLAUSES:]
    weights: list[float] = []
    committed: list[bool] = []
    naming: list[bool] = []
    before = 0
    for n, clause in enumerate(clauses):
        own = len(asked & matter(clause))
        inherits = bool(n and clause.forms[:1] and clause.forms[0] in _ANAPHORS)
        weight: float = own + before * inherits
        before = int(weight)
        bare = n == 0 and len(clauses) > 1 and _is_bare(clause)
        if bare:
            weight = max(weight, _BARE_WEIGHT)
        committed.append(_commits(clause, wanted, known))
        weight += _SAYING * committed[n]
        weights.append(weight)
        naming.append(_names_something(clause, known, bare))
    if all(len(clause.words) <= _ITEM for clause in clauses):  # "Paris. London. Rome."
        return [read(answer)]
    start = max(
        (
            n
            for n, clause in enumerate(clauses)
            if (committed[n] and _CONCLUSION.search(clause.text))
            or (naming[n] and _CORRECTION.search(clause.text))
        ),
        default=0,
    )
    clauses, weights, naming = clauses[start:], weights[start:], naming[start:]
    kept = []
    for n, clause in enumerate(clauses):
        if _OPINION.search(clause.text) and any(
            _CONTRAST.match(other.text) for other in clauses[n + 1 : n + 2]
        ):
            continue
        rivals = [weights[m] for m in range(n) if naming[m]]
        if weights[n] == 0 and not _ANAPHORS.intersection(clause.forms[:1]):
            rivals += [weights[m] for m in range(n + 1, len(clauses)) if naming[m]]
        if weights[n] >= max(rivals, default=0):
            kept.append(clause)
    return kept


def is_negative(question: str) -> bool:
    """Whether a question asks for what is not so: what an answer denies is its answer then."""
    last = [sentence for sentence in _SENTENCE_END.split(question) if _WORD.search(sentence)][-1:]
    return bool(last and _NEGATION.search(read(last[0]).text))


def matter(reading: Reading) -> set[str]:
    """The words that carry meaning."""
    return set(reading.forms) - FUNCTION_WORDS


def opening_name(clause: Reading) -> int:
    """The number of words of the name that a clause begins with, or 0."""
    words = clause.words
    end = 0
    while end < len(words) and words[end].capital:
        end += 1
    if not end or clause.forms[0] in _OPENERS:
        return 0
    if end == len(words):
        return end
    # A verb or a sign follows a name; "so" and "when" are followed by "the".
    after = clause.forms[end] in _PREPOSITIONS or re.match(r"\s*\w", clause.between(end))
    return 0 if after else end


def _commits(clause: Reading, wanted: list[str], known: set[str]) -> bool:
    """Whether a clause says that something is the reference, or else that it is a new name."""
    found = places(wanted, clause.forms)[:1] or [
        n for n, w in enumerate(clause.words) if n and w.capital and w.form not in known
    ]
    return any(at and clause.forms[at - 1] in _COPULAS for at in found)


def _is_bare(clause: Reading) -> bool:
    if len(clause.words) > _BARE or _VERB.search(clause.text):
        return False
    return opening_name(clause) in (0, len(clause.words))  # not "Plato wrote it"


def _names_something(clause: Reading, known: set[str], bare: bool) -> bool:
    if _NEGATION.search(clause.text):  # "Not Sydney but Canberra"
        return False
    if bare:
        return "!" not in clause.text
    first = opening_name(clause)
    named = [word for n, word in enumerate(clause.words) if word.capital and (n >= 1 or first)]
    return any(word.form not in known for word in named)
