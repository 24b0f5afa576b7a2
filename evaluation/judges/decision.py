"""Which part of an answer answers the question, and whether what it mentions there is its answer.

"Piazza San Marco is in Rome. The Canale Grande is in Venice." says Rome to "Where is Piazza San
Marco?", though Venice is in it. So each clause is weighed by the words of the question in it, and a
clause that names something as an answer overrules others of less weight. Within a clause a mention
is no answer where something else stands in its place: "Guatemala borders Mexico", "near Sydney",
"more than 24", "Sydney?".
"""

from __future__ import annotations

import re
from functools import lru_cache

from evaluation.judges.text import FUNCTION_WORDS, is_number, stem, tokens

_CLAUSE_END = re.compile(
    r"(?<=\w\w\w[.!?])\s+(?=[^a-z])|(?<=[;\n])|(?<=\w:)\s"
    r"|(?<!nything),? (?=(?:but|whereas|while|although|though)\b)"
)
_VERB = re.compile(r"\b(?:is|are|was|were|be|been|has|have|had|does|do|did|can|could|will|would)\b")
_ANAPHOR = re.compile(r"\W*(?:it|he|she|they|this|that|these|those|its|his|her|their)\b", re.I)
_NEGATION = re.compile(r"\b(?:not|no|never|neither)\b", re.IGNORECASE)
# A name within a clause: its first word would have a capital letter anyway.
_NAME = re.compile(r"(?<=[\w,'’\"(.] )[A-Z]\w+")
# What begins a clause as a subject does: a word, and then a verb or an adverb.
_SUBJECT = re.compile(
    r"\W*([A-Z]\w+(?: [A-Z]\w+)*)(?= (?!(?:by|in|on|at|to|of|from|for|with|under)\b)[a-z]+)"
)
# Words that begin a clause, and are no name though a lower-case word comes after them.
_NO_SUBJECTS = frozenset({"yes", "no", "none", "according"})
# "the Russian novelist Leo Tolstoy"
_ADJECTIVE = re.compile(r"\b(?:[Tt]he|[Aa]n?|[Bb]y|was|is) [A-Z]\w+(?: [a-z]+){1,2} $")
_COPULA = re.compile(r"\b(?:is|are|was|were|be|called|named)\W+(?:the )?$", re.IGNORECASE)
# What may stand between a place and the one in which it lies: "Venice, Italy".
_WITHIN = re.compile(r"\W*(?:(?:in|of) (?:the )?)?$")
# "Neil Armstrong was first, Buzz Aldrin second."
_NEW_PART = re.compile(r"[,;:] (?:and )?(?:the )?$")
# What comes after one of these is spoken of beside the answer.
_BESIDE = re.compile(
    r"\b(?:near|than|like|besides?|between|beyond|unlike|until|(?:(?:north|south|east|west)\w*"
    r"|outside|instead|neighbou?r|capital) of|(?:next|similar|close|opposed) to|far from|border\w*"
    r"|used to be|formerly|mistaken for|(?:followed|preceded|inspired|conquered) by|with)"
    r"(?: (?:the|a|an|it is|it was))? $",
    re.IGNORECASE,
)
# Before a number, that it is another.
_BOUND = re.compile(
    r"\b(?:(?:more|less|fewer|later|earlier) than|at (?:least|most)|up to|before|after) \W?$",
    re.IGNORECASE,
)
_RANGE = re.compile(r"\s?[-–—/]\s?\d|\s?(?:%|percent\b)")
_FROM_TO = re.compile(r" to \d")
# "Abraham Lincoln's vice president Andrew Johnson"
_OWNER = re.compile(r"['’]s? [a-z ,]*(?=[A-Z])")
_WORD = re.compile(r"\w")
# What comes after so many clauses is not read.
_MOST_CLAUSES = 100
# "It was not written by Plato", but "not only by Plato".
_DENIED = re.compile(r"(?:\b(?:not|never)\b|n['’]t\b)(?! only)[^,;:]*$", re.IGNORECASE)
# "Many people think it is Sydney, but it is Canberra."
_OPINION = re.compile(r"\b(?:thinks?|believes?|assumes?|says?|often|sometimes)\b", re.IGNORECASE)
_CONTRAST = re.compile(r"\W*(?:but|however|in fact|actually)\b", re.IGNORECASE)
# Of more words, a clause without a verb is no bare answer.
_BARE = 6
# Clauses of so many words are the items of a list.
_ITEM = 2
# A bare answer weighs more than a sentence that has one word of the question.
_BARE_WEIGHT = 1.5
# What "it is Lima" adds to the weight of a clause.
_SAYING = 2.0


@lru_cache(maxsize=1024)
def deciding(question: str, answer: str, reference: str) -> str:
    """An answer without the clauses that others overrule, or that do not mean what they mention.

    Args:
        reference: tells what counts as naming something: a number, or a name.
    """
    asked = _matter(question) - _matter(reference)
    numeric = any(map(is_number, tokens(reference)))
    mention = re.compile(rf"(?<!\w){re.escape(reference.strip(' .'))}(?!\w)", re.IGNORECASE)
    clauses = [clause for clause in _CLAUSE_END.split(answer) if _WORD.search(clause)]
    del clauses[_MOST_CLAUSES:]
    weights: list[float] = []
    naming: list[bool] = []
    before = 0
    for n, clause in enumerate(clauses):
        own = len(asked & _matter(clause))
        inherits = bool(n and _ANAPHOR.match(clause))
        weight: float = own + before * inherits
        before = int(weight)
        bare = n == 0 and len(clauses) > 1 and _is_bare(clause)
        if bare:
            weight = max(weight, _BARE_WEIGHT)
        if _commits(clause, mention):
            weight += _SAYING
        weights.append(weight)
        naming.append(_names_something(clause, question, bare))
    items = all(len(clause.split()) <= _ITEM for clause in clauses)  # "Paris. London. Rome."
    kept = []
    for n, clause in enumerate(clauses):
        if _OPINION.search(clause) and any(map(_CONTRAST.match, clauses[n + 1 : n + 2])):
            continue
        rivals = [weights[m] for m in range(n) if naming[m]]
        if weights[n] == 0 and not _ANAPHOR.match(clause):
            rivals += [weights[m] for m in range(n + 1, len(clauses)) if naming[m]]
        if (items or weights[n] >= max(rivals, default=0)) and _means(
            clause, mention, question, numeric
        ):
            kept.append(clause)
    return " ".join(kept)


def _means(clause: str, mention: re.Pattern[str], question: str, numeric: bool) -> bool:
    """Whether a clause that mentions something gives it as the answer, at one place at least."""
    places = list(mention.finditer(clause))
    return not places or any(_is_answer(clause, place, question, numeric) for place in places)


def _is_answer(clause: str, place: re.Match[str], question: str, numeric: bool) -> bool:
    before, after = clause[: place.start()], clause[place.end() :]
    if after.startswith("?"):
        return False
    if numeric:
        asks_share = re.search("percent|%", question)
        if _FROM_TO.match(after) and not before.casefold().endswith("from "):
            return False
        return not (_BOUND.search(before) or (_RANGE.match(after) and not asks_share))
    if _OWNER.match(after) or (_DENIED.search(before) and not is_negative(question)):
        return False
    known = _words(question)
    beside = _BESIDE.search(before)
    if beside and beside[0].split()[0].casefold() not in known:
        return False
    if any(link.search(before) for link in (_COPULA, _NEW_PART, _ADJECTIVE)):
        return True
    subject = _SUBJECT.match(before)
    names = [(m[0], m.end()) for m in _NAME.finditer(before)]
    if subject and subject[1].casefold() not in FUNCTION_WORDS | _NO_SUBJECTS:
        names.append((subject[1], subject.end()))
    rivals = [end for name, end in names if not set(_split(name)) <= known | FUNCTION_WORDS]
    return not rivals or bool(_WITHIN.match(before[max(rivals) :]))


def is_negative(question: str) -> bool:
    """Whether a question asks for what is not so: what an answer denies is its answer then."""
    return bool(_NEGATION.search(question))


def _words(text: str) -> set[str]:
    return set(_split(text))


def _split(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _commits(clause: str, mention: re.Pattern[str]) -> bool:
    """Whether a clause says that something is the reference, or else that it is a name."""
    place = mention.search(clause)
    if place is None and _NEGATION.search(clause):
        return False
    places = [place] if place else _NAME.finditer(clause)
    return any(_COPULA.search(clause[: each.start()]) for each in places)


def _is_bare(clause: str) -> bool:
    return len(clause.split()) <= _BARE and not (_VERB.search(clause) or _SUBJECT.match(clause))


def _names_something(clause: str, question: str, bare: bool) -> bool:
    if _NEGATION.search(clause):  # "Not Sydney but Canberra"
        return False
    if bare:
        return "!" not in clause
    known = _words(question)
    return any(name.casefold() not in known for name in _NAME.findall(clause))


def _matter(text: str) -> set[str]:
    """The words that carry meaning, stemmed."""
    return {stem(token) for token in tokens(text)} - FUNCTION_WORDS
