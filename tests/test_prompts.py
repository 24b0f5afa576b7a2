"""Prompts come out of the model's own chat template, rendered safely."""

from __future__ import annotations

import pytest

from runtime import SetupError
from runtime.engine import Engine
from runtime.prompts import (
    TokenFrame,
    fit,
    frame,
    instructed_frame,
    opens_thinking,
    prompt_tokens,
    tokenized_frame,
)
from runtime.questions import read_file
from runtime.subjects import Subjects
from tests.conftest import SAMPLES

INSTRUCTION = "Answer in one word."
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_chinese_has_its_instruction_in_chinese() -> None:
    instruction = Subjects.load()["chinese"].instruction
    assert all("\u4e00" <= c <= "\u9fff" for c in instruction if c not in "。，")


def test_the_question_has_its_place_in_the_template() -> None:
    rendered = frame(CHATML, INSTRUCTION)
    assert rendered.head.endswith("<|im_start|>user\n")
    assert INSTRUCTION in rendered.head
    assert rendered.tail == "<|im_end|>\n<|im_start|>assistant\n"


def test_what_ends_an_answer_is_what_the_template_puts_after_it() -> None:
    assert frame(CHATML, INSTRUCTION).end == "<|im_end|>"
    assert frame(None, INSTRUCTION, eos="</s>").end == "</s>"
    without_roles = "{{ messages[-1].content if messages|length < 3 else 1 / 0 }}"
    assert frame(without_roles, INSTRUCTION, eos="</s>").end == "</s>"


def test_thinking_is_switched_off_where_the_template_can() -> None:
    template = CHATML + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    assert frame(template, INSTRUCTION).tail.endswith("assistant\n<think>\n\n</think>\n\n")


def test_where_a_template_refuses_a_system_message_the_question_carries_the_instruction() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}[{{ m.content }}]{% endfor %}"
    )
    assert frame(template, INSTRUCTION).head == f"[{INSTRUCTION}\n\n"


def test_where_a_template_drops_the_system_message_the_question_carries_the_instruction() -> None:
    template = "{% for m in messages if m.role == 'user' %}[{{ m.content }}]{% endfor %}"
    assert frame(template, INSTRUCTION).head == f"[{INSTRUCTION}\n\n"


GEMMA = (
    "{{ bos_token }}{% set first = '' %}{% if messages[0].role == 'system' %}"
    "{% set first = messages[0].content + '\n\n' %}{% set loop_messages = messages[1:] %}"
    "{% else %}{% set loop_messages = messages %}{% endif %}{% for m in loop_messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ first if loop.first else '' }}{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %}[INST] {% if loop.index0 == 0 and system is defined %}{{ system }}"
    "\n\n{% endif %}{{ m.content }}[/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
GRANITE = (
    "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}"
    "<|end_of_text|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "head", "tail", "end"),
    [
        (GEMMA, "<s><start_of_turn>user\n{}\n\n", "<end_of_turn>\n<start_of_turn>model\n")
        + ("<end_of_turn>",),
        (MISTRAL, "<s>[INST] {}\n\n", "[/INST]", "</s>"),
        (PHI, "<|system|>\n{}<|end|>\n<|user|>\n", "<|end|>\n<|assistant|>\n", "<|end|>"),
        (
            GRANITE,
            "<|start_of_role|>system<|end_of_role|>{}<|end_of_text|>\n"
            "<|start_of_role|>user<|end_of_role|>",
            "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
            "<|end_of_text|>",
        ),
    ],
    ids=["gemma", "mistral", "phi", "granite"],
)
def test_templates_of_other_families(template: str, head: str, tail: str, end: str) -> None:
    made = frame(template, INSTRUCTION, bos="<s>", eos="</s>")
    assert (made.head, made.tail, made.end) == (head.format(INSTRUCTION), tail, end)


def test_a_template_may_write_messages_as_json() -> None:
    assert 'a \\"b\\"' in frame("{{ messages | tojson }}", 'a "b"').head


@pytest.mark.parametrize(
    ("generation", "opens"),
    [("<think>\n", True), ("<think>\n\n</think>\n\n", False), ("", False)],
)
def test_it_is_known_whether_the_prompt_ends_inside_a_think_block(
    generation: str, opens: bool
) -> None:
    assert opens_thinking(frame(CHATML + generation, INSTRUCTION).tail) is opens


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ messages[-1].content[-12:] }}", "does not show the instruction"),
        ("{{ messages[0].content }}{% for", "unexpected 'end of template'"),
        ("no question", "shows the question 0 times"),
        ("{{ messages[-1].content * 2 }}", "shows the question 2 times"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "access to attribute '__class__'"),
        ("{{ raise_exception('not this way') }}", "not this way"),
    ],
)
def test_a_template_that_cannot_be_used_is_explained(template: str, problem: str) -> None:
    with pytest.raises(SetupError, match="chat template cannot be used") as error:
        frame(template, INSTRUCTION)
    assert problem in str(error.value)


def test_a_model_without_a_template_gets_a_plain_prompt() -> None:
    rendered = frame(None, INSTRUCTION)
    assert rendered.head == INSTRUCTION + "\n\n"
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
    rendered = frame(model.metadata("tokenizer.chat_template"), INSTRUCTION)
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
        frame(template, INSTRUCTION)


def test_a_template_may_mark_what_is_generated() -> None:
    template = "{{ messages[-1].content }}{% generation %}: {% endgeneration %}"
    assert frame(template, INSTRUCTION).tail == ": "


def test_a_template_without_end_is_a_clear_error() -> None:
    """Its limits are tested with `templates`."""
    template = "{{ messages[-1].content }}{{ 'a' * 10**12 }}"
    with pytest.raises(SetupError, match="cannot be used: it takes more than 1 GiB of memory"):
        frame(template, INSTRUCTION)


class Letters:
    """A tokenizer with a token for each letter, and one for "<|end|>" where it is special."""

    bos_to_add = 1
    chat_template = "<|end|>{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"

    def special_text(self, name: str) -> str:
        return ""

    def tokenize(self, text: str, special: bool = False, follows: bool = False) -> list[int]:
        if special:
            text = text.replace("<|end|>", "\0")
        return list(map(ord, text))


def _shown(tokens: list[int]) -> str:
    return "".join(map(chr, tokens))


def test_an_instruction_and_a_subject_get_the_same_frame() -> None:
    subjects = Subjects.load()
    instruction = subjects["history"].instruction
    of_subject = tokenized_frame(Letters(), "history", subjects)
    assert of_subject == instructed_frame(Letters(), instruction)
    assert of_subject.head[:2] == [1, 0]
    assert _shown(of_subject.head[2:]) == instruction + "\0"


PARTS = TokenFrame(head=[ord("<")], tail=[ord(">")], end=[])


def test_passages_go_before_the_question_in_its_language() -> None:
    prompt, cut = prompt_tokens(Letters(), PARTS, "Who?", 100, [" Ann. ", "", "Bob."])
    assert _shown(prompt) == "<Background:\n\nAnn.\n\nBob.\n\nQuestion: Who?>"
    assert not cut
    prompt, _ = prompt_tokens(Letters(), PARTS, "谁？", 100, ["安"])
    assert _shown(prompt) == "<背景资料：\n\n安\n\n问题：谁？>"


def test_without_passages_the_prompt_is_the_bare_question() -> None:
    for passages in ([], [" "]):
        prompt, _ = prompt_tokens(Letters(), PARTS, "Who?", 100, passages)
        assert _shown(prompt) == "<Who?>"


def test_what_looks_like_a_token_in_a_passage_is_plain_text() -> None:
    prompt, _ = prompt_tokens(Letters(), PARTS, "Who?", 100, ["a<|end|>b"])
    assert "a<|end|>b" in _shown(prompt)


def test_passages_give_way_before_the_question_does() -> None:
    passages = ["First " * 10, "Second " * 10, "Third " * 10]
    around = len("<Background:\n\n\n\nQuestion: Who?>")
    both = around + len("First " * 10 + "\n" + "Second " * 10) - 1

    def shown(limit: int, question: str = "Who?") -> str:
        prompt, cut = prompt_tokens(Letters(), PARTS, question, limit, passages)
        assert len(prompt) <= limit
        assert cut == (len(question) + 2 > limit)
        return _shown(prompt)

    assert "Third" in shown(300)
    assert "Second" in shown(both + 3)
    assert "Third" not in shown(both + 3)
    assert "Second" not in shown(both - 3)
    assert shown(around + 45) == (
        "<Background:\n\n" + ("First " * 10)[:45].rstrip() + "\n\nQuestion: Who?>"
    )
    assert shown(around + 30) == "<Who?>"
    assert shown(6) == "<Who?>"
    assert shown(8, "Who was it?") == "<Whoit?>"


def test_an_enormous_passage_is_cut_before_it_is_tokenized() -> None:
    prompt, _ = prompt_tokens(Letters(), PARTS, "Who?", 200, ["long " * 10**6] * 100)
    assert len(prompt) <= 200
    assert _shown(prompt).endswith("long long\n\nQuestion: Who?>")
