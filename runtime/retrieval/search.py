"""From a question to a few sentences that may answer it, and how good they look."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runtime.retrieval.index import Index, Passage
from runtime.retrieval.tags import asked_for, years_in
from runtime.retrieval.tokens import tokens

# Passages that BM25 hands on to be put in order by tags and patterns.
_CANDIDATES = 8
# What each of these adds to a BM25 score, as a share of it (docs/knowledge.md).
_TAG_BOOST, _TITLE_BOOST, _YEAR_BOOST = 0.1, 0.15, 0.1
# How many words are shown at most: what a gate may choose from, the shorter by default.
SHORT, LONG = 60, 160
# One sentence is shown for each this many of them.
_WORDS_OF_A_SENTENCE = 20
# How strongly a low score of its passage lowers a sentence.
_TRUST = 4
# Everything that is shown of a sentence; a longer one has no end.
_LONGEST_SENTENCE = 600
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；])|\n+")
_WORD = re.compile(r"[\u3400-\u9fff]{2}|[^\s\u3400-\u9fff]+")


@dataclass(frozen=True)
class Found:
    """What was found for a question."""

    passages: list[str]  # texts to show, best first, trimmed to the sentences that matter
    features: dict[str, float]  # how good they look; what a gate decides by (see `FEATURES`)


# score: of the best passage; margin: what it has over the second, as a share of it;
# coverage: share of the question's tokens, weighted by rarity, that the shown text has;
# rarest: 1.0 if the shown text has the question's rarest token;
# density: score for each token of the question; brevity: 1 / the question's tokens.
FEATURES = ("score", "margin", "coverage", "rarest", "density", "brevity")


def find(index: Index, question: str, top_k: int, most_words: int = SHORT) -> Found:
    """Search a base for a question, and show sentences of at most `top_k` passages.

    They have `most_words` together, but one sentence is never cut for that.
    """
    words = list(dict.fromkeys(tokens(question)))
    best_first = candidates(index, question, words)[:top_k]
    if not best_first:
        return Found([], dict.fromkeys(FEATURES, 0.0))
    shown = _trimmed(index, words, best_first, most_words)
    best = best_first[0][1]
    second = best_first[1][1] if len(best_first) > 1 else 0.0
    weights = {word: index.weight(word) or index.weight_of_unknown for word in words}
    covered = set(tokens(" ".join(shown)))
    rarest = max(words, key=lambda word: weights[word])
    have = sum(weight for word, weight in weights.items() if word in covered)
    features = {
        "score": best,
        "margin": (best - second) / best,
        "coverage": have / sum(weights.values()),
        "rarest": float(rarest in covered),
        "density": best / len(words),
        "brevity": 1 / len(words),
    }
    return Found(shown, features)


def candidates(
    index: Index, question: str, words: list[str], count: int = _CANDIDATES
) -> list[tuple[Passage, float]]:
    """BM25's best, put in order by score, tags, titles and years."""
    asked, years, said = asked_for(question), years_in(question), set(words)
    found = []
    for number, score in index.search(words, count):
        passage = index.passage(number)
        title = set(tokens(passage.title))
        boost = _TAG_BOOST * len(asked.intersection(passage.tags))
        boost += _TITLE_BOOST * bool(title and title <= said)
        boost += _YEAR_BOOST * bool(years and years & years_in(passage.text))
        found.append((passage, score * (1 + boost)))
    return sorted(found, key=lambda pair: (-pair[1], pair[0].id))


def _trimmed(
    index: Index, words: list[str], found: list[tuple[Passage, float]], room: int
) -> list[str]:
    """The sentences that share most with the question, under their passage's heading."""
    asked = set(words)
    ranked = []
    for rank, (passage, score) in enumerate(found):
        heading = set(tokens(passage.heading))
        trust = (score / found[0][1]) ** _TRUST
        for place, sentence in enumerate(_SENTENCE.split(passage.text)):
            sentence = sentence.strip()[:_LONGEST_SENTENCE]
            if not sentence:
                continue
            own = asked.intersection(tokens(sentence))
            both = own | (asked & heading)
            value = sum(map(index.weight, both)) + 0.5 * sum(map(index.weight, own))
            length = len(_WORD.findall(sentence))
            ranked.append((0.02 * length - trust * value, rank, place, length, sentence))
    ranked.sort()
    taken: dict[int, list[tuple[int, str]]] = {}
    said: set[tuple[str, str]] = set()
    left = max(1, room // _WORDS_OF_A_SENTENCE)
    for _, rank, place, length, sentence in ranked:
        same = found[rank][0].heading, sentence
        if same in said:
            continue
        if not left:
            break
        said.add(same)
        left -= 1
        if length <= room or not taken:
            taken.setdefault(rank, []).append((place, sentence))
            room -= length
    shown = []
    for rank in sorted(taken):
        text = " ".join(sentence for _, sentence in sorted(taken[rank]))
        above = found[rank][0].heading
        between = "" if not above else " " if above.endswith(("?", "？")) else ": "
        shown.append(f"{above}{between}{text}")
    return shown
