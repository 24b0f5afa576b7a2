"""From messages to token ids, in the model's own chat template.

A conversation is rendered with a mark in the place of each message, once for each sequence of
roles, as that needs a process; the messages' tokens then take the places of the marks. So what a
message says cannot act as a template or as a special token.

A single question to a subject is not a conversation: `runtime.way` makes its prompt.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.engine import Model
from runtime.serve.errors import ApiError
from runtime.subjects import Subjects
from runtime.templates import TemplateLimitError, render_all
from runtime.way import Prompt

_MOST_KEPT = 256
_MARK = re.compile(r"@@MESSAGE_(\d+)@@")

Turn = tuple[str, str]  # (role, text)


def is_question(turns: Sequence[Turn]) -> bool:
    """Whether these turns are a single question, which a subject answers as in a list."""
    return [role for role, _ in turns] == ["user"]


@dataclass(frozen=True)
class _Skeleton:
    """A rendered conversation: token ids, and between them the numbers of the messages."""

    parts: tuple[list[int], ...]  # one more than `messages`
    messages: tuple[int, ...]
    opens_thinking: bool


class Conversations:
    """Makes prompts for one model; may be used from several threads.

    Args:
        model: has the vocabulary and the chat template.
        subjects: their instructions go before questions.
    """

    def __init__(self, model: Model, subjects: Subjects) -> None:
        self._model = model
        self._subjects = subjects
        self._skeletons: OrderedDict[tuple[str, ...], _Skeleton] = OrderedDict()
        self._lock = threading.Lock()

    def prompt(self, turns: Sequence[Turn], subject: str | None = None) -> Prompt:
        """The prompt after which the assistant answers, or goes on with its last message.

        Args:
            turns: roles ("system", "user", "assistant") and texts.
            subject: its instruction is the system message where the turns have none.

        Raises:
            ApiError: the template does not take such a conversation.
        """
        if subject is not None and turns[0][0] != "system":
            turns = [("system", self._subjects[subject].instruction), *turns]
        try:
            return self._filled(turns)
        except ApiError:
            if len(turns) < 2 or turns[0][0] != "system":
                raise
        # Some templates refuse a system message; there it goes before the first question.
        (_, instruction), (role, text), *rest = turns
        return self._filled([(role, f"{instruction}\n\n{text}"), *rest])

    def _filled(self, turns: Sequence[Turn]) -> Prompt:
        skeleton = self._skeleton(tuple(role for role, _ in turns))
        tokens = list(skeleton.parts[0])
        for number, part in zip(skeleton.messages, skeleton.parts[1:], strict=True):
            tokens += self._model.tokenize(turns[number][1], follows=True)
            tokens += part
        if turns[-1][0] == "assistant":  # what would end its message
            tokens = tokens[: len(tokens) - len(skeleton.parts[-1])]
        return Prompt(tokens, skeleton.opens_thinking)

    def _skeleton(self, roles: tuple[str, ...]) -> _Skeleton:
        with self._lock:
            known = self._skeletons.get(roles)
            if known is None:
                known = self._skeletons[roles] = self._render(roles)
                if len(self._skeletons) > _MOST_KEPT:
                    self._skeletons.popitem(last=False)
            self._skeletons.move_to_end(roles)
            return known

    def _render(self, roles: tuple[str, ...]) -> _Skeleton:
        model, template = self._model, self._model.chat_template
        if template is None:
            raise ApiError(400, "this model has no chat template: use /v1/completions", "messages")
        turns = [{"role": r, "content": f"@@MESSAGE_{n}@@"} for n, r in enumerate(roles)]
        bos, eos = model.special_text("bos"), model.special_text("eos")
        try:
            asks = roles[-1] != "assistant"
            (rendered,) = render_all(template, [(turns, asks)], bos, eos)
        except TemplateLimitError as error:
            raise ApiError(400, f"the chat template fails: {error}", "messages") from None
        texts = _MARK.split(rendered.text)  # text, number, text, number, ..., text
        shown = tuple(int(number) for number in texts[1::2])
        if rendered.problem or shown != tuple(range(len(roles))):
            reason = rendered.problem or "it does not show every message once, in order"
            raise ApiError(
                400, f"the model's chat template refuses these messages: {reason}", "messages"
            )
        parts = [
            model.tokenize(text, special=True, follows=place > 0)
            for place, text in enumerate(texts[::2])
        ]
        if model.bos_to_add is not None and parts[0][:1] != [model.bos_to_add]:
            parts[0] = [model.bos_to_add, *parts[0]]
        thinking = asks and texts[-1].count("<think>") > texts[-1].count("</think>")
        return _Skeleton(tuple(parts), shown, thinking)
