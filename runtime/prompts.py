"""From a question to a prompt: the subject's instruction in the model's own chat template.

The one source of prompts for serving and training: both make their token ids here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from runtime.common.errors import SetupError
from runtime.retrieval.tokens import has_han
from runtime.subjects import Subjects
from runtime.templates import Messages, Rendered, TemplateLimitError, render_all

# For a model without a chat template.
_PLAIN_TEMPLATE = (
    "{{ messages[0].content }}\n\n{{ messages[1].content }}{{ '\n\n' }}"
    "{% if messages[2] %}{{ messages[2].content + eos_token }}{% endif %}"
)
# They stand for question and answer while the template is rendered around them.
_MARK = "@@QUESTION@@"
_ANSWER_MARK = "@@ANSWER@@"
# Most characters of a token, where it matters. A text longer than the longest prompt times
# that is cut before it is tokenized.
_CHARS_PER_TOKEN = 16
# Around passages, in the question's language.
_AROUND_PASSAGES = ("Background:\n\n", "\n\nQuestion: ")
_AROUND_PASSAGES_IN_CHINESE = ("背景资料：\n\n", "\n\n问题：")
# A shorter piece of a passage is useless.
_SHORTEST_PASSAGE = 40


class Tokenizer(Protocol):
    """What prompts are made with: a loaded GGUF model, or a checkpoint's tokenizer."""

    @property
    def chat_template(self) -> str | None:
        """The model's Jinja chat template."""

    @property
    def bos_to_add(self) -> int | None:
        """The token that the vocabulary wants in front of every prompt, or None."""

    def special_text(self, name: Literal["bos", "eos"]) -> str:
        """Text of the begin- or end-of-sequence token, "" without one."""

    def tokenize(self, text: str, special: bool = False, follows: bool = False) -> list[int]:
        """Token ids of a text, nothing added; see `Model.tokenize`."""


@dataclass(frozen=True)
class Frame:
    """What comes before and after the question in a prompt, and what ends the answer to it."""

    head: str
    tail: str
    end: str


def frame(template: str | None, instruction: str, bos: str = "", eos: str = "") -> Frame:
    """Render a chat template around an instruction, leaving a gap for the question.

    The template, or None for a plain prompt, comes out of a model file, so it runs within limits
    (see `templates`). Thinking is switched off where it knows `enable_thinking`.

    Raises:
        SetupError: the template fails, takes too much time or memory, or does not show the
            instruction and the question, the latter exactly once.
    """
    return _frames(template, (instruction,), bos, eos)[instruction]


@lru_cache(maxsize=16)  # starting a process for each subject would take a second
def _frames(
    template: str | None, instructions: tuple[str, ...], bos: str, eos: str
) -> Mapping[str, Frame]:
    """A frame for each instruction, all rendered in one process. Raises SetupError."""
    conversations = [
        (messages, goes_on)
        for instruction in instructions
        for question in _questions(instruction)
        for messages, goes_on in (
            (question, True),
            ([*question, {"role": "assistant", "content": _ANSWER_MARK}], False),
        )
    ]
    try:
        rendered = render_all(template or _PLAIN_TEMPLATE, conversations, bos, eos)
    except TemplateLimitError as error:
        raise SetupError(f"the model's chat template cannot be used: {error}") from None
    each = len(rendered) // len(instructions)
    return {
        instruction: _frame_of(instruction, rendered[n * each : (n + 1) * each], eos)
        for n, instruction in enumerate(instructions)
    }


def _questions(instruction: str) -> tuple[Messages, Messages]:
    """Some templates refuse a system message; there the instruction goes before the question."""
    return (
        [{"role": "system", "content": instruction}, {"role": "user", "content": _MARK}],
        [{"role": "user", "content": f"{instruction}\n\n{_MARK}"}],
    )


def _frame_of(instruction: str, rendered: Sequence[Rendered], eos: str) -> Frame:
    """The first way that works, from pairs: the question rendered, and with its answer."""
    problem = ""
    for asked, answered in zip(rendered[::2], rendered[1::2], strict=True):
        if asked.problem:
            problem = problem or asked.problem
        elif asked.text.count(_MARK) != 1:
            problem = problem or f"it shows the question {asked.text.count(_MARK)} times"
        elif not _shows(asked.text, instruction):
            problem = problem or "it does not show the instruction"
        else:
            head, tail = asked.text.split(_MARK)
            # A template that fails on answers can still be served.
            end = answered.text.rpartition(_ANSWER_MARK)[2].strip()
            return Frame(head, tail, end or eos)
    raise SetupError(f"the model's chat template cannot be used: {problem}")


def _shows(text: str, instruction: str) -> bool:
    """Whether a text has an instruction in it, as it is or as JSON."""
    bare = instruction.strip()
    return bare in text or json.dumps(bare, ensure_ascii=False)[1:-1] in text


@dataclass(frozen=True)
class TokenFrame:
    """A `Frame` as token ids."""

    head: list[int]
    tail: list[int]
    end: list[int]
    opens_thinking: bool = False


def tokenized_frame(tokenizer: Tokenizer, subject: str, subjects: Subjects) -> TokenFrame:
    """The frame of a subject's questions as token ids. Raises SetupError."""
    bos, eos = tokenizer.special_text("bos"), tokenizer.special_text("eos")
    instructions = tuple(each.instruction for each in subjects.values())
    frames = _frames(tokenizer.chat_template, instructions, bos, eos)
    return _tokenized(tokenizer, frames[subjects[subject].instruction])


def instructed_frame(tokenizer: Tokenizer, instruction: str) -> TokenFrame:
    """The frame of any instruction, not of a subject's, as token ids. Raises SetupError."""
    bos, eos = tokenizer.special_text("bos"), tokenizer.special_text("eos")
    return _tokenized(tokenizer, frame(tokenizer.chat_template, instruction, bos, eos))


def _tokenized(tokenizer: Tokenizer, rendered: Frame) -> TokenFrame:
    """Special tokens are special only here: "<|im_end|>" in a question is plain text."""
    head = with_bos(tokenizer, tokenizer.tokenize(rendered.head, special=True))
    tail = tokenizer.tokenize(rendered.tail, special=True, follows=True)
    end = tokenizer.tokenize(rendered.end, special=True, follows=True)
    return TokenFrame(head, tail, end, opens_thinking(rendered.tail))


def opens_thinking(tail: str) -> bool:
    """Whether a prompt with this end leaves a think block open, so that the model begins in it."""
    return tail.count("<think>") > tail.count("</think>")


def with_bos(tokenizer: Tokenizer, tokens: list[int]) -> list[int]:
    """Tokens with the begin-of-sequence token before them, if the vocabulary has it there."""
    bos = tokenizer.bos_to_add
    return tokens if bos is None or tokens[:1] == [bos] else [bos, *tokens]


def prompt_tokens(
    tokenizer: Tokenizer, frame: TokenFrame, question: str, limit: int, passages: Sequence[str] = ()
) -> tuple[list[int], bool]:
    """Token ids of the whole prompt, and whether the question was cut to fit `limit` tokens.

    Passages go before the question, as plain text, as many of the first as fit beside the
    whole question; if not even the first does, as much of it as fits.
    """
    text, longest = question, limit * _CHARS_PER_TOKEN
    if len(text) > longest:
        text = text[: longest // 2] + text[-longest // 2 :]
    tokens = tokenizer.tokenize(text, follows=True)
    room = limit - len(frame.head) - len(frame.tail)
    if passages and len(tokens) < room and len(text) == len(question):
        tokens = _with_passages(tokenizer, passages, question, room) or tokens
    prompt, cut = fit(frame.head, tokens, frame.tail, limit)
    return prompt, cut > 0 or len(text) < len(question)


def _with_passages(
    tokenizer: Tokenizer, passages: Sequence[str], question: str, room: int
) -> list[int]:
    """At most `room` token ids of passages and the question; none if no passage fits."""
    begin, between = _AROUND_PASSAGES_IN_CHINESE if has_han(question) else _AROUND_PASSAGES

    def tokens(shown: Sequence[str]) -> list[int]:
        text = begin + "\n\n".join(shown) + between + question
        return tokenizer.tokenize(text, follows=True)

    longest = room * _CHARS_PER_TOKEN
    whole = [passage.strip() for passage in passages]
    whole = [passage[:longest] for passage in whole if passage]
    if not whole:
        return []
    found = _most(lambda count: tokens(whole[:count]), range(1, len(whole) + 1), room)
    if not found:
        lengths = range(_SHORTEST_PASSAGE, len(whole[0]))
        found = _most(lambda length: tokens([whole[0][:length].rstrip()]), lengths, room)
    return found


def _most(tokens: Callable[[int], list[int]], sizes: range, room: int) -> list[int]:
    """`tokens` of the largest size that gives at most `room` of them; empty if none does."""
    found: list[int] = []
    low, high = sizes.start, sizes.stop
    while low < high:
        size = high - 1 if high == sizes.stop else (low + high) // 2  # usually everything fits
        tried = tokens(size)
        if len(tried) <= room:
            found, low = tried, size + 1
        else:
            high = size
    return found


def fit(head: list[int], question: list[int], tail: list[int], limit: int) -> tuple[list[int], int]:
    """Token ids of the whole prompt, and how many of the question were cut to fit `limit`.

    Head and tail always survive; a question too long loses its middle.
    """
    room = limit - len(head) - len(tail)
    cut = max(0, len(question) - room)
    if cut:
        first = (room + 1) // 2
        question = question[:first] + question[len(question) - (room - first) :]
    return head + question + tail, cut
