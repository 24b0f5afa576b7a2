"""From what the model wrote to what the evaluator gets."""

from __future__ import annotations

import re

MAX_CHARS = 5000
# Lines and sentences this long count as repeated wherever they come again; shorter ones
# ("x = 2", "Yes.") only directly after themselves.
_LONG = 20

_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"
_THINK_TAG = re.compile(r"</?think>")
_END_OF_TURN = re.compile(r"<\|(?:im_end|endoftext|eot_id|end|end_of_text)\|>|</s>")
_TEMPLATE_TOKEN = re.compile(r"<\|[A-Za-z0-9_ ]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>")
_LABEL = re.compile(
    r"^\s*(?:(?:assistant|answer|final answer)\s*[:：]\s*|assistant\s*\n+"
    r"|(?:答案|回答|答)\s*[:：]\s*)",
    re.IGNORECASE,
)
# A phrase four times or more in a row: the model is caught in a loop.
_LOOP = re.compile(r"([^\n]{4,120}?)\1{3,}")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")


def clean(text: str, question: str = "", cut: bool = False) -> str:
    """The answer in a model's text: at most 5,000 characters, empty only if `text` is.

    Args:
        text: what the model wrote.
        question: what it was asked, to tell an echo of it.
        cut: the text ends where the model was stopped, maybe in the middle of a repeat.

    Drops think blocks, template tokens, an echo of the question, labels such as
    "Answer:", repeated lines, sentences and phrases, and superfluous white space.
    """
    for attempt in (_without_thinking(text), _THINK_TAG.sub(" ", text)):
        answer = _tidy(attempt, question, cut)
        if answer:
            return answer[:MAX_CHARS].rstrip()
    return text.strip()[:MAX_CHARS]


def _tidy(text: str, question: str, cut: bool) -> str:
    ended = _END_OF_TURN.search(text)
    if ended and text[: ended.start()].strip():
        text = text[: ended.start()]
    text = _TEMPLATE_TOKEN.sub("", text)
    text = _without_label(_without_echo(_without_label(text), question))
    text = _without_repeats(_LOOP.sub(_once, text), cut)
    text = re.sub(r"[ \t\u3000]+", " ", text)
    return re.sub(r" ?\n ?(?:\n ?)+", "\n\n", text).strip()


def _without_thinking(text: str) -> str:
    """Drop think blocks: closed, nested, never closed, or opened in the prompt."""
    kept, depth, at = [], 0, 0
    for tag in _THINK_TAG.finditer(text):
        if depth == 0:
            kept.append(text[at : tag.start()])
        if tag.group() == _THINK_OPEN:
            depth += 1
        elif depth > 0:
            depth -= 1
        else:  # closes what the prompt opened: all so far was thinking
            kept.clear()
        at = tag.end()
    if depth == 0:
        kept.append(text[at:])
    return "".join(kept)


def _without_label(text: str) -> str:
    rest = _LABEL.sub("", text, count=1)
    return rest if rest.strip() else text


def _without_echo(text: str, question: str) -> str:
    """Drop the question from the front, whatever its case and white space.

    A question of a word or two may well be how the answer begins ("Paris": "Paris is a
    city"), so only one that is longer or ends as questions do counts as echoed.
    """
    words = question.split()
    whole = len(words) > 2 or len(question) >= _LONG or question.rstrip().endswith(("?", "？"))
    if not words or not whole or len(question) > len(text):
        return text
    label = r"(?:question|q|问题|问)\s*[:：]\s*"
    echoed = r"\s+".join(map(re.escape, words))
    whole_word = r"(?!\w)" if words[-1][-1].isalnum() else ""
    echo = re.match(rf"\s*(?:{label})?{echoed}{whole_word}[\s:：]*", text, flags=re.IGNORECASE)
    rest = text[echo.end() :] if echo else text
    return rest if rest.strip() else text


def _once(loop: re.Match[str]) -> str:
    """The phrase of a loop; a number such as 1000000000000000000000 is none."""
    return loop[1] if any(c.isalpha() for c in loop[1]) else loop[0]


def _without_repeats(text: str, cut: bool) -> str:
    seen: set[str] = set()
    lines = _drop_repeats(text.split("\n"), set())
    kept = [_without_repeated_sentences(line, seen) for line in lines[:-1]]
    return "\n".join([*kept, _without_repeated_sentences(lines[-1], seen, cut)])


def _without_repeated_sentences(line: str, seen: set[str], cut: bool = False) -> str:
    ends = [match.end() for match in _SENTENCE_END.finditer(line)]
    starts = [0, *ends]
    sentences = [line[a:b] for a, b in zip(starts, [*ends, len(line)], strict=True)]
    if cut:
        last = _key(sentences[-1])
        begun = seen.union(map(_key, sentences[:-1]))
        if len(last) >= _LONG and any(earlier.startswith(last) for earlier in begun):
            sentences.pop()
    return "".join(_drop_repeats(sentences, seen))


def _drop_repeats(parts: list[str], seen: set[str]) -> list[str]:
    """Parts that say something new."""
    kept: list[str] = []
    previous = ""
    for part in parts:
        key = _key(part)
        if not key or not (key == previous or (len(key) >= _LONG and key in seen)):
            kept.append(part)
        if key:
            previous = key
            seen.add(key)
    return kept


def _key(part: str) -> str:
    return " ".join(part.split()).casefold()
