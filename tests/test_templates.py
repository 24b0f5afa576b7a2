"""Chat templates come out of model files: they run within limits of time, memory and length."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from runtime.templates import Rendered, TemplateLimitError, render_all

USER = {"role": "user", "content": "hi"}
HI = [([USER], True)]

LOOPS = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
DOUBLING = (
    "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}"
    "{% endfor %}{{ ns.s }}"
)
TREE = (
    "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}"
    "{% endfor %}{{ ns.s }}"
)
CALLS = "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}"
TIME, MEMORY, LENGTH = "more than 1 seconds", "more than 1 GiB", "more than 1,000,000 char"


@pytest.fixture(params=["in a process", "here"])
def _anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once where processes can be started, once where they cannot."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no processes here")

    if request.param == "here":
        monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.mark.usefixtures("_anywhere")
@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (LOOPS, TIME),
        (CALLS, TIME),
        ("{{ 'a' * 10**11 }}", MEMORY),
        ("{{ 'a' | center(10**11) }}", MEMORY),
        ("{{ '%100000000000d' % 1 }}", MEMORY),
        ("{{ 'a' * 2000000 }}", LENGTH),
        ("{# " + "a" * 1_000_000 + " #}", LENGTH.replace("more", "longer")),
    ],
)
def test_a_template_at_its_limits_ends_with_an_error_that_names_the_limit(
    template: str, problem: str
) -> None:
    started = time.process_time()
    with pytest.raises(TemplateLimitError, match=problem):
        render_all(template, HI, seconds=1)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("template", [DOUBLING, TREE, "{{ 9 ** (9 ** 9) }}"])
def test_a_computation_that_python_cannot_interrupt_is_ended_with_its_process(
    template: str,
) -> None:
    with pytest.raises(TemplateLimitError, match="it takes more than 1"):
        render_all(template, HI, seconds=1)


@pytest.mark.usefixtures("_anywhere")
def test_each_conversation_is_rendered_or_says_why_not() -> None:
    template = (
        "{{ bos_token }}{{ messages[0].content }}{{ 1 / (messages | length - 2) }}"
        "{{ add_generation_prompt }}{{ enable_thinking }}{{ eos_token }}"
    )
    conversations = [([USER], False), ([USER] * 2, True), ([USER] * 3, True)]
    assert render_all(template, conversations, "<s>", "</s>") == [
        Rendered("<s>hi-1.0FalseFalse</s>"),
        Rendered(problem="ZeroDivisionError: division by zero"),
        Rendered("<s>hi1.0TrueFalse</s>"),
    ]


@pytest.mark.usefixtures("_anywhere")
@pytest.mark.parametrize("nested", ["(" * 50_000 + "1" + ")" * 50_000, "-" * 50_000 + "1"])
def test_a_template_nested_too_deeply_fails_as_others_do(nested: str) -> None:
    (rendered,) = render_all("{{ " + nested + " }}", HI)
    assert "RecursionError" in rendered.problem


@pytest.mark.usefixtures("_anywhere")
def test_odd_characters_come_through() -> None:
    (rendered,) = render_all(
        "{{ messages[0].content }}\u2028é\0", [([{"content": "北\ud800"}], True)]
    )
    assert rendered.text == "北\ud800\u2028é\0"


def test_where_the_process_cannot_even_begin_templates_are_rendered_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert render_all("{{ messages[0].content }}", HI) == [Rendered("hi")]


def test_limits_of_this_process_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    before = resource.getrlimit(resource.RLIMIT_AS), sys.gettrace()
    with pytest.raises(TemplateLimitError):
        render_all("{{ 'a' * 10**11 }}", HI)
    assert (resource.getrlimit(resource.RLIMIT_AS), sys.gettrace()) == before
