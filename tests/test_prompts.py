"""Prompts come out of the model's own chat template, rendered safely."""

from __future__ import annotations

import pytest

from runtime import SetupError
from runtime.engine import Engine
from runtime.prompts import INSTRUCTIONS, fit, frame
from runtime.questions import read_file
from runtime.subjects import SUBJECTS
from tests.conftest import SAMPLES

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_every_subject_has_an_instruction_and_chinese_has_it_in_chinese() -> None:
    assert set(INSTRUCTIONS) == set(SUBJECTS)
    assert all("\u4e00" <= c <= "\u9fff" for c in INSTRUCTIONS["chinese"] if c not in "。，")


def test_the_question_has_its_place_in_the_template() -> None:
    rendered = frame(CHATML, "history")
    assert rendered.head.endswith("<|im_start|>user\n")
    assert INSTRUCTIONS["history"] in rendered.head
    assert rendered.tail == "<|im_end|>\n<|im_start|>assistant\n"


def test_what_ends_an_answer_is_what_the_template_puts_after_it() -> None:
    assert frame(CHATML, "history").end == "<|im_end|>"
    assert frame(None, "history", eos="</s>").end == "</s>"
    without_roles = "{{ messages[-1].content if messages|length < 3 else 1 / 0 }}"
    assert frame(without_roles, "history", eos="</s>").end == "</s>"


def test_thinking_is_switched_off_where_the_template_can() -> None:
    template = CHATML + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    assert frame(template, "general").tail.endswith("assistant\n<think>\n\n</think>\n\n")


def test_where_a_template_refuses_a_system_message_the_question_carries_the_instruction() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}[{{ m.content }}]{% endfor %}"
    )
    assert frame(template, "history").head == f"[{INSTRUCTIONS['history']}\n\n"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ messages[0].content }}{% for", "unexpected 'end of template'"),
        ("no question", "shows the question 0 times"),
        ("{{ messages[-1].content * 2 }}", "shows the question 2 times"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "access to attribute '__class__'"),
        ("{{ raise_exception('not this way') }}", "not this way"),
    ],
)
def test_a_template_that_cannot_be_used_is_explained(template: str, problem: str) -> None:
    with pytest.raises(SetupError, match="chat template cannot be used") as error:
        frame(template, "history")
    assert problem in str(error.value)


def test_a_model_without_a_template_gets_a_plain_prompt() -> None:
    rendered = frame(None, "history")
    assert rendered.head == INSTRUCTIONS["history"] + "\n\n"
    assert rendered.tail == "\n\n"


def test_a_prompt_that_fits_is_whole() -> None:
    assert fit([1, 2], [3, 4, 5], [6], limit=6) == ([1, 2, 3, 4, 5, 6], 0)


def test_a_long_question_loses_its_middle_and_the_template_survives() -> None:
    prompt, cut = fit([1, 2], list(range(10, 20)), [6], limit=8)
    assert prompt == [1, 2, 10, 11, 12, 18, 19, 6]
    assert cut == 5
    assert fit([1], [7, 8, 9], [2], limit=3) == ([1, 7, 2], 2)


def test_tokens_are_those_of_the_whole_text(engine: Engine) -> None:
    """Head, question and tail are tokenized apart, and no question shows it."""
    model = engine.model
    rendered = frame(model.metadata("tokenizer.chat_template"), "general")
    for question in read_file(SAMPLES):
        if question.problem or "<|" in question.text:
            continue
        apart = (
            model.tokenize(rendered.head, special=True)
            + model.tokenize(question.text)
            + model.tokenize(rendered.tail, special=True)
        )
        whole = rendered.head + question.text + rendered.tail
        assert apart == model.tokenize(whole, special=True)


def test_template_tokens_in_a_question_are_plain_text(engine: Engine) -> None:
    (end,) = engine.model.tokenize("<|im_end|>", special=True)
    assert end not in engine.model.tokenize("<|im_end|>")


@pytest.mark.parametrize(
    "template",
    ["{{ 1 / 0 }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ range(10**9) | list }}"],
)
def test_a_template_that_fails_in_any_way_is_a_clear_error(template: str) -> None:
    with pytest.raises(SetupError, match="the model's chat template cannot be used"):
        frame(template, "general")


def test_a_template_may_mark_what_is_generated() -> None:
    template = "{{ messages[-1].content }}{% generation %}: {% endgeneration %}"
    assert frame(template, "general").tail == ": "
