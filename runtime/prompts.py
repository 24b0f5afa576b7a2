"""From a question to a prompt: the subject's instruction in the model's own chat template.

The one source of templates for serving and training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.errors import SetupError

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
_PLAIN_TEMPLATE = "{{ messages[0].content }}\n\n{{ messages[1].content }}{{ '\n\n' }}"
# Stands for the question while the template is rendered around it.
_MARK = "@@QUESTION@@"


@dataclass(frozen=True)
class Frame:
    """What comes before and after the question in a prompt."""

    head: str
    tail: str


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
            text = _render(template or _PLAIN_TEMPLATE, messages, bos, eos)
        except Exception as error:  # a template is a program: it may fail in any way
            problem = problem or f"{type(error).__name__}: {error}"
            continue
        if text.count(_MARK) == 1:
            head, tail = text.split(_MARK)
            return Frame(head, tail)
        problem = problem or f"it shows the question {text.count(_MARK)} times"
    raise SetupError(f"the model's chat template cannot be used: {problem}")


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; here it shows them."""

    tags = {"generation"}  # noqa: RUF012  (jinja's own spelling)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _render(template: str, messages: list[dict[str, str]], bos: str, eos: str) -> str:
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
        "add_generation_prompt": True,
        "enable_thinking": False,
        "bos_token": bos,
        "eos_token": eos,
    }
    return environment.from_string(template).render(**variables)


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
