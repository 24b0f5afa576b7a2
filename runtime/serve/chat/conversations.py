"""From messages to token ids, in the model's own chat template.

A conversation is rendered with marks for its messages, once for each sequence of roles, since that
needs a process; the messages' tokens then replace the marks. So what a message says cannot act as
a template or as a special token.

A single question to a subject is not a conversation: `runtime.way` makes its prompt.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from typing import Any

from runtime.engine import Model
from runtime.prompts import opens_thinking, with_bos
from runtime.serve.chat.usage import USUAL, Turn, Usage
from runtime.serve.errors import ApiError, invalid
from runtime.serve.tools.formats import Form, form_of
from runtime.subjects import Subjects
from runtime.templates import TemplateLimitError, render_all
from runtime.way import Prompt

_MOST_KEPT = 256
# Its quotes show whether the template writes messages as JSON.
_MARK = re.compile(r'@@MESSAGE (\\?)"(\d+)\\?"@@')
# What shows how a template has tools written.
_ANY_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Looks something up.",
        "parameters": {"type": "object", "properties": {"key": {"type": "string"}}},
    },
}

Tools = Sequence[Mapping[str, Any]]  # as chat templates get them


def is_question(turns: Sequence[Turn]) -> bool:
    """Whether these turns are a single question, which a subject answers as in a list."""
    return [role for role, _ in turns] == ["user"]


@dataclass(frozen=True)
class _Skeleton:
    """A rendered conversation: token ids around its messages, and which of these are JSON."""

    parts: tuple[list[int], ...]
    as_json: tuple[bool, ...]
    opens_thinking: bool


class Conversations:
    """Makes prompts for one model; may be used from several threads."""

    def __init__(self, model: Model, subjects: Subjects) -> None:
        self._model = model
        self._subjects = subjects
        self._skeleton = lru_cache(_MOST_KEPT)(self._make_skeleton)
        self._lock = threading.Lock()  # none is made twice

    @cached_property
    def form(self) -> Form | None:
        """How the chat template has calls of tools written; None if it has no known form."""
        try:
            turns = [("user", "?")]
            rendered = self._rendered(turns, [_ANY_TOOL], USUAL.of(turns))
        except ApiError:
            return None
        return form_of(rendered) if _ANY_TOOL["function"]["name"] in rendered else None

    def prompt(
        self,
        turns: Sequence[Turn],
        subject: str | None = None,
        tools: Tools = (),
        usage: Usage = USUAL,
    ) -> Prompt:
        """The prompt after which the assistant answers, or goes on with its last message.

        Roles are "system", "user", "assistant" and "tool". The subject's instruction is the
        system message where the turns have none.

        Raises:
            ApiError: the template does not take such a conversation, or tools or variables have
                special tokens in them.
        """
        shown = json.dumps(tools, ensure_ascii=False) if tools else ""
        for field, text in (("tools", shown), ("chat_template_kwargs", usage.variables)):
            if self._model.tokenize(text, special=True) != self._model.tokenize(text):
                raise invalid(f"{field}: there is a special token of the model in them", field)
        usage = usage.of(turns)
        if subject is not None and turns[0][0] != "system":
            turns = [("system", self._subjects[subject].instruction), *turns]
        try:
            return self._filled(turns, shown, usage)
        except ApiError:
            if len(turns) < 2 or turns[0][0] != "system":
                raise
        # Some templates refuse a system message; there it goes before the first question.
        (_, instruction), (role, text), *rest = turns
        return self._filled([(role, f"{instruction}\n\n{text}"), *rest], shown, usage)

    def _filled(self, turns: Sequence[Turn], tools: str, usage: Usage) -> Prompt:
        with self._lock:
            roles = tuple(role for role, _ in turns)
            skeleton = self._skeleton(roles, tools, usage, date.today())
        tokens = list(skeleton.parts[0])
        for (_, text), as_json, part in zip(
            turns, skeleton.as_json, skeleton.parts[1:], strict=True
        ):
            if as_json:
                text = json.dumps(text, ensure_ascii=False)[1:-1]
            tokens += self._model.tokenize(text, follows=True)
            tokens += part
        if usage.continues:  # without what would end the message
            tokens = tokens[: len(tokens) - len(skeleton.parts[-1])]
        return Prompt(tokens, skeleton.opens_thinking)

    def _make_skeleton(
        self, roles: tuple[str, ...], tools: str, usage: Usage, _: date
    ) -> _Skeleton:
        """The skeleton of a day, which some templates show."""
        model = self._model
        turns = [(role, f'@@MESSAGE "{number}"@@') for number, role in enumerate(roles)]
        rendered = self._rendered(turns, json.loads(tools) if tools else [], usage)
        # text, backslash, number, text, backslash, number, ..., text
        texts = _MARK.split(rendered)
        if [int(number) for number in texts[2::3]] != list(range(len(roles))):
            raise _refused("it does not show every message once, in order")
        parts = [
            model.tokenize(text, special=True, follows=place > 0)
            for place, text in enumerate(texts[::3])
        ]
        parts[0] = with_bos(model, parts[0])
        thinking = bool(usage.asks) and opens_thinking(texts[-1])
        return _Skeleton(tuple(parts), tuple(map(bool, texts[1::3])), thinking)

    def _rendered(self, turns: Sequence[Turn], tools: Tools, usage: Usage) -> str:
        """The text that the chat template makes of turns. Raises ApiError."""
        model, template = self._model, self._model.chat_template
        variables = json.loads(usage.variables or "{}")
        if tools:
            variables["tools"] = tools
            template = model.metadata("tokenizer.chat_template.tool_use") or template
        if template is None:
            raise ApiError(400, "this model has no chat template: use /v1/completions", "messages")
        messages = [{"role": role, "content": text} for role, text in turns]
        bos, eos = model.special_text("bos"), model.special_text("eos")
        asked = [(messages, bool(usage.asks))]
        try:
            (rendered,) = render_all(template, asked, bos, eos, variables=variables)
        except TemplateLimitError as error:
            raise ApiError(400, f"the chat template fails: {error}", "messages") from None
        if rendered.problem:
            raise _refused(rendered.problem)
        return rendered.text


def _refused(reason: str) -> ApiError:
    return ApiError(400, f"the model's chat template refuses these messages: {reason}", "messages")
