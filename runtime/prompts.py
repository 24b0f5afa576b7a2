"""From a question to a prompt: the subject's instruction in the model's own chat template.

The one source of prompts for serving and training: both make their token ids here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NoReturn, Protocol

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.common.errors import SetupError

INSTRUCTIONS: Mapping[str, str] = {
    "algebra": (
        "You are a helpful assistant. Solve the problem in a few short steps and end with"
        " the result."
    ),
    "geography": (
        "You are a helpful assistant. Answer the geography question in one short sentence."
    ),
    "history": ("You are a helpful assistant. Answer the history question in one short sentence."),
    "chinese": "你是一个有用的助手。请用一句简短的话直接回答问题。",
    "general": "You are a helpful assistant. Answer the question in one short sentence.",
}

# For a model without a chat template.
_PLAIN_TEMPLATE = (
    "{{ messages[0].content }}\n\n{{ messages[1].content }}{{ '\n\n' }}"
    "{% if messages[2] %}{{ messages[2].content + eos_token }}{% endif %}"
)
# Stand for the question and the answer while the template is rendered around them.
_MARK = "@@QUESTION@@"
_ANSWER_MARK = "@@ANSWER@@"
# No token is longer than this many characters where it matters; what goes beyond the longest
# prompt times that is cut before it is tokenized.
_CHARS_PER_TOKEN = 16


class Tokenizer(Protocol):
    """What prompts are made with: a loaded GGUF model, or a checkpoint's tokenizer."""

    @property
    def chat_template(self) -> str | None:
        """The model's Jinja chat template."""

    @property
    def bos_to_add(self) -> int | None:
        """The token that the vocabulary wants in front of every prompt, or None."""

    def special_text(self, name: Literal["bos", "eos"]) -> str:
        """Text of the begin- or end-of-sequence token, "" if there is none."""

    def tokenize(self, text: str, special: bool = False, follows: bool = False) -> list[int]:
        """Token ids of a text, nothing added.

        Args:
            text: any text.
            special: "<|im_end|>" and the like are one token each.
            follows: the text goes on after another.
        """


@dataclass(frozen=True)
class Frame:
    """What comes before and after the question in a prompt, and what ends the answer to it."""

    head: str
    tail: str
    end: str


def frame(template: str | None, subject: str, bos: str = "", eos: str = "") -> Frame:
    """Render a chat template for a subject, leaving a gap for the question.

    Args:
        template: the model's Jinja chat template, or None for a plain prompt. It comes
            out of a model file, so it runs in Jinja's sandbox. Thinking is switched off
            where it knows `enable_thinking`.
        subject: a key of `INSTRUCTIONS`.
        bos, eos: texts of the model's special tokens.

    Raises:
        SetupError: the template fails, or does not show the question exactly once.
    """
    system = {"role": "system", "content": INSTRUCTIONS[subject]}
    user = {"role": "user", "content": _MARK}
    both = {"role": "user", "content": f"{INSTRUCTIONS[subject]}\n\n{_MARK}"}
    problem = ""
    # Some templates refuse a system message; there the instruction goes before the question.
    for messages in ([system, user], [both]):
        try:
            text = render(template or _PLAIN_TEMPLATE, messages, bos, eos)
        except Exception as error:  # a template is a program: it may fail in any way
            problem = problem or f"{type(error).__name__}: {error}"
            continue
        if text.count(_MARK) == 1:
            head, tail = text.split(_MARK)
            return Frame(head, tail, _end(template or _PLAIN_TEMPLATE, messages, bos, eos))
        problem = problem or f"it shows the question {text.count(_MARK)} times"
    raise SetupError(f"the model's chat template cannot be used: {problem}")


def _end(template: str, messages: list[dict[str, str]], bos: str, eos: str) -> str:
    """What a template puts after an answer, without white space; `eos` if that is nothing."""
    answered = [*messages, {"role": "assistant", "content": _ANSWER_MARK}]
    try:
        text = render(template, answered, bos, eos, add_generation_prompt=False)
    except Exception:  # it can be served all the same
        return eos
    return text.rpartition(_ANSWER_MARK)[2].strip() or eos


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; here it shows them."""

    tags = {"generation"}  # noqa: RUF012  (jinja's own spelling)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def render(
    template: str,
    messages: list[dict[str, str]],
    bos: str = "",
    eos: str = "",
    add_generation_prompt: bool = True,
) -> str:
    """Render a chat template over messages as transformers does, in a sandbox, without thinking.

    Raises whatever the template does: it is a program.
    """

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    # The environment and the names in it are those of transformers' chat templates.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension, _Generation]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(
        value, **{"ensure_ascii": False, **options}
    )
    environment.globals.update(
        raise_exception=raise_exception,
        strftime_now=lambda form: datetime.now().strftime(form),
    )
    variables: dict[str, Any] = {
        "messages": messages,
        "add_generation_prompt": add_generation_prompt,
        "enable_thinking": False,
        "bos_token": bos,
        "eos_token": eos,
    }
    return environment.from_string(template).render(**variables)


@dataclass(frozen=True)
class TokenFrame:
    """A `Frame` as token ids."""

    head: list[int]
    tail: list[int]
    end: list[int]


def tokenized_frame(tokenizer: Tokenizer, subject: str) -> TokenFrame:
    """The frame of a subject's questions as token ids. Raises SetupError."""
    bos, eos = tokenizer.special_text("bos"), tokenizer.special_text("eos")
    rendered = frame(tokenizer.chat_template, subject, bos, eos)
    head = tokenizer.tokenize(rendered.head, special=True)
    tail = tokenizer.tokenize(rendered.tail, special=True, follows=True)
    end = tokenizer.tokenize(rendered.end, special=True, follows=True)
    if tokenizer.bos_to_add is not None and head[:1] != [tokenizer.bos_to_add]:
        head = [tokenizer.bos_to_add, *head]
    return TokenFrame(head, tail, end)


def prompt_tokens(
    tokenizer: Tokenizer, frame: TokenFrame, question: str, limit: int
) -> tuple[list[int], bool]:
    """Token ids of the whole prompt, and whether the question was cut to fit `limit` tokens."""
    text, longest = question, limit * _CHARS_PER_TOKEN
    if len(text) > longest:
        text = text[: longest // 2] + text[-longest // 2 :]
    prompt, cut = fit(frame.head, tokenizer.tokenize(text, follows=True), frame.tail, limit)
    return prompt, cut > 0 or len(text) < len(question)


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
