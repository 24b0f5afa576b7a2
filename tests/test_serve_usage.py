"""Chats go on, begin anew, and set variables of the chat template as the client says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.engine import Model
from runtime.subjects import Subjects

pytest.importorskip("fastapi")

from runtime.serve.body.schema import ChatBody
from runtime.serve.chat import conversations
from runtime.serve.chat.conversations import Conversations
from runtime.serve.chat.usage import Usage
from runtime.serve.errors import ApiError

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}[/]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]"
    "{% if enable_thinking %}<think>{% endif %}{{ tone }}{% endif %}"
)
ASKED = [("user", "Hi")]
BEGUN = [*ASKED, ("assistant", "Hel")]


@pytest.fixture(scope="module")
def model(demo_model: Path) -> Iterator[Model]:
    model = Model(demo_model)
    model.__dict__["chat_template"] = TEMPLATE
    yield model
    model.close()


@pytest.mark.parametrize(
    ("usage", "turns", "expected"),
    [
        (Usage(), ASKED, "[user]Hi[/][assistant]"),
        (Usage(asks=False), ASKED, "[user]Hi[/]"),
        (Usage(), BEGUN, "[user]Hi[/][assistant]Hel"),
        (Usage(continues=True), BEGUN, "[user]Hi[/][assistant]Hel"),
        (Usage(continues=True, asks=False), BEGUN, "[user]Hi[/][assistant]Hel"),
        (Usage(continues=False), BEGUN, "[user]Hi[/][assistant]Hel[/][assistant]"),
        (Usage(asks=True), BEGUN, "[user]Hi[/][assistant]Hel[/][assistant]"),
        (Usage(continues=False, asks=False), BEGUN, "[user]Hi[/][assistant]Hel[/]"),
        (Usage(variables='{"tone": "!"}'), ASKED, "[user]Hi[/][assistant]!"),
        (Usage(variables='{"enable_thinking": true}'), ASKED, "[user]Hi[/][assistant]<think>"),
    ],
)
def test_the_prompt_is_as_the_client_says(
    model: Model, usage: Usage, turns: list[tuple[str, str]], expected: str
) -> None:
    prompt = Conversations(model, Subjects.load()).prompt(turns, usage=usage)
    assert b"".join(map(model.piece, prompt.tokens)).decode() == expected
    assert prompt.opens_thinking == expected.endswith("<think>")


@pytest.mark.parametrize(
    ("usage", "turns", "field"),
    [
        (Usage(continues=True), ASKED, "continue_final_message"),
        (Usage(continues=True, asks=True), BEGUN, "continue_final_message"),
        (Usage(variables='{"tone": "<|im_end|>"}'), ASKED, "chat_template_kwargs"),
    ],
)
def test_what_cannot_be_is_refused(
    model: Model, usage: Usage, turns: list[tuple[str, str]], field: str
) -> None:
    with pytest.raises(ApiError) as caught:
        Conversations(model, Subjects.load()).prompt(turns, usage=usage)
    assert caught.value.param == field


def test_a_template_that_shows_the_day_is_rendered_anew_each_day(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Conversations(model, Subjects.load())
    for day in ("1 May", "1 May", "2 May"):
        monkeypatch.setattr(conversations, "date", SimpleNamespace(today=lambda day=day: day))
        monkeypatch.setitem(model.__dict__, "chat_template", f"{day}: {TEMPLATE}")
        text = b"".join(map(model.piece, known.prompt(ASKED).tokens)).decode()
        assert text == f"{day}: [user]Hi[/][assistant]"


def test_bodies_say_it() -> None:
    sent = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}

    def usage(**more: object) -> Usage:
        return ChatBody.model_validate({**sent, **more}).usage

    assert usage().is_usual
    assert usage(chat_template_kwargs={"enable_thinking": False}).is_usual
    assert usage(continue_final_message=False, add_generation_prompt=True).is_usual
    thinking = usage(chat_template_kwargs={"enable_thinking": True})
    assert thinking == Usage(variables='{"enable_thinking": true}')
    assert not thinking.is_usual
    assert not usage(add_generation_prompt=False).is_usual
    for wrong in ({"messages": []}, {"x": "y" * 10_000}):
        with pytest.raises(ValueError, match="chat_template_kwargs"):
            usage(chat_template_kwargs=wrong)
