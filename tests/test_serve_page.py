"""The page at /, in a real browser, on a phone's screen and without a mouse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser import CHROMIUM, Tab, browsing
from tests.serving import Server, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

KEY = "a secret"
# Keeps what the page sends.
SPY = """
window.sent = [];
const real = window.fetch;
window.fetch = (url, options) => {
  if (options.body) sent.push(options.body);
  return real(url, options);
};
0
"""
BUSY = "conversation.getAttribute('aria-busy') === 'true'"
ANSWER = "document.querySelector('#conversation .assistant:last-child').textContent"


@pytest.fixture(scope="module")
def server(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"SERVE_API_KEY": KEY, "MAX_NEW_TOKENS": "200"}
    with serving(tmp_path_factory.mktemp("server"), **settings) as server:
        yield server


@contextmanager
def asking(server: Server, folder: Path, model: str = "demo") -> Iterator[Tab]:
    """The page with the key given and a model chosen."""
    with browsing(folder) as tab:
        tab.call("Page.navigate", url=server.url)
        tab.until("!document.getElementById('key-field').hidden")
        tab.evaluate(f"key.value = '{KEY}'; fillSubjects(); 0")
        tab.until("document.querySelectorAll('#subject option').length === 7")
        tab.evaluate(f"subject.value = '{model}'; 0")
        tab.evaluate(SPY)
        yield tab


def ask(tab: Tab, question: str, **options: str) -> None:
    """Ask with the options of the page, by their ids."""
    given = {"question": question, **options}
    values = "; ".join(
        f"document.getElementById('{n}').value = {json.dumps(v)}" for n, v in given.items()
    )
    tab.evaluate(f"{values}; ask(); 0")


def sent(tab: Tab) -> list[dict[str, Any]]:
    """The bodies that the page has sent."""
    return [json.loads(body) for body in tab.evaluate("sent")]


def test_ask_with_the_keyboard_alone_on_a_phone(server: Server, tmp_path: Path) -> None:
    with browsing(tmp_path) as tab:
        tab.call("Page.navigate", url=server.url)
        tab.until(
            "document.title === 'Ask a subject' && !document.getElementById('key-field').hidden"
        )
        focused = "document.activeElement.id"
        tab.press("Tab", 9)
        assert tab.evaluate(focused) == "key"
        tab.write(KEY)
        tab.press("Tab", 9)
        assert tab.evaluate(focused) == "subject"
        tab.until("document.querySelectorAll('#subject option').length === 7")
        assert tab.evaluate("document.getElementById('subject').value") == "auto"
        assert tab.evaluate("document.getElementById('facts').getClientRects().length") == 0
        tab.press("Tab", 9)
        assert tab.evaluate(focused) == "topic"
        tab.write("geography")
        tab.press("Tab", 9)
        assert tab.evaluate(focused) == "question"
        tab.write("What is the capital of France?")
        tab.press("Enter", 13, modifiers=2)
        tab.until("document.getElementById('spoken').textContent.includes('Paris')")
        assert "Paris" in tab.evaluate(ANSWER)
        facts = tab.evaluate("document.getElementById('facts').innerText")
        assert "geography" in facts
        assert "ms to the first token" in facts
        assert "nothing removed" in facts
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert not tab.evaluate(BUSY)
        labels = (
            "[...document.querySelectorAll('input,select,textarea')].every(e => e.labels.length)"
        )
        assert tab.evaluate(labels)


def test_an_answer_streams_and_can_be_stopped(server: Server, tmp_path: Path) -> None:
    with asking(server, tmp_path) as tab:
        ask(tab, "Tell a long story.")
        assert tab.evaluate(
            f"waiting.hidden === ({BUSY} && !!document.querySelector('.assistant'))"
        )
        tab.until(f"{ANSWER}.length > 5 && {BUSY}")
        tab.evaluate("document.getElementById('stop').click(); 0")
        tab.until(f"!({BUSY})")
        assert tab.evaluate("problem.textContent") == "Stopped."


def test_an_answer_that_was_cut_off_says_so_and_can_be_continued(
    server: Server, tmp_path: Path
) -> None:
    with asking(server, tmp_path) as tab:
        ask(tab, "Tell a long story.", length="6", temperature="0")
        tab.until(f"sent.length && !({BUSY})")
        assert "was cut off" in tab.evaluate("cut.textContent")
        begun = tab.evaluate("messages[1].content")
        tab.evaluate("more.click(); 0")
        tab.until(f"sent.length === 2 && !({BUSY})")
        whole = tab.evaluate("messages[1].content")
        assert tab.evaluate("conversation.children.length") == 2
        first, second = sent(tab)
        assert (first["max_tokens"], first["temperature"]) == (6, 0)
        assert second["messages"][-1] == {"role": "assistant", "content": begun}
        # As if it had not been cut off.
        tab.evaluate("begin(); 0")
        ask(tab, "Tell a long story.", length="12")
        tab.until(f"sent.length === 3 && !({BUSY})")
        assert tab.evaluate("messages[1].content") == whole


def test_a_conversation_is_sent_with_each_question_until_a_new_one_begins(
    server: Server, tmp_path: Path
) -> None:
    with asking(server, tmp_path, "geography") as tab:
        for count, question in enumerate(["What is the capital of France?", "And of Italy?"], 1):
            ask(tab, question, length="12")
            tab.until(f"sent.length === {count} && !({BUSY})")
            assert tab.evaluate("document.querySelectorAll('.assistant').length") == count
        roles = [message["role"] for message in sent(tab)[1]["messages"]]
        assert roles == ["user", "assistant", "user"]
        tab.evaluate("document.getElementById('new').click(); 0")
        assert tab.evaluate("conversation.children.length") == 0
        assert tab.evaluate("facts.hidden")
        ask(tab, "What is the capital of Spain?")
        tab.until(f"sent.length === 3 && !({BUSY})")
        assert len(sent(tab)[2]["messages"]) == 1


def test_a_question_that_is_refused_can_be_changed(server: Server, tmp_path: Path) -> None:
    with asking(server, tmp_path) as tab:
        ask(tab, "Why?", temperature="-1")
        assert tab.evaluate("options.open"), "the field that is wrong can be seen"
        for constraint, problem in (("{", "not JSON"), ('{"type": "x"}', "Invalid type")):
            ask(tab, "Why?", temperature="", kind="schema", constraint=constraint)
            tab.until("problem.textContent")
            assert problem in tab.evaluate("problem.textContent")
            assert tab.evaluate("question.value") == "Why?"
            assert tab.evaluate("conversation.children.length") == 0
        assert len(sent(tab)) == 1


def test_an_answer_is_one_of_some_choices_or_json_of_a_schema(
    server: Server, tmp_path: Path
) -> None:
    number = {"type": "integer", "minimum": 0, "maximum": 9}
    schema = {"type": "object", "properties": {"n": number}, "required": ["n"]}
    with asking(server, tmp_path) as tab:
        ask(tab, "Red or blue?", kind="choice", constraint="red\n\n blue ")
        tab.until(f"sent.length === 1 && !({BUSY})")
        assert tab.evaluate("problem.textContent") == ""
        assert tab.evaluate(ANSWER) in ("red", "blue")
        ask(tab, "Who?", kind="schema", constraint=json.dumps(schema))
        tab.until(f"sent.length === 2 && !({BUSY})")
        assert 0 <= json.loads(tab.evaluate(ANSWER))["n"] <= 9
        choice, form = sent(tab)
    assert choice["structured_outputs"] == {"choice": ["red", "blue"]}
    assert form["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": schema},
    }


MARKDOWN = {
    "x**2 + y**2 = 2": "<p>x**2 + y**2 = 2</p>",
    "**Paris** is `big`.\nYes.": "<p><strong>Paris</strong> is <code>big</code>.\nYes.</p>",
    "## A\n- one\n- **two**\n\nend": (
        "<h3>A</h3><ul><li>one</li><li><strong>two</strong></li></ul><p>end</p>"
    ),
    "3. c\n4. d": '<ol start="3"><li>c</li><li>d</li></ol>',
    "```python\nif a < b:\n    **c**\n```\nx": (
        "<pre><code>if a &lt; b:\n    **c**</code></pre><p>x</p>"
    ),
    "```\nnot closed": "<pre><code>not closed</code></pre>",
    "[here](https://a.example/?b=c)": (
        '<p><a href="https://a.example/?b=c" rel="noopener noreferrer" target="_blank">here</a></p>'
    ),
    "[here](javascript:alert(1))": "<p>[here](javascript:alert(1))</p>",
    "<img src=x onerror=alert(1)> **<b>**": (
        "<p>&lt;img src=x onerror=alert(1)&gt; <strong>&lt;b&gt;</strong></p>"
    ),
    '[a](https://x"onclick=alert)': (
        '<p><a href="https://x&quot;onclick=alert" rel="noopener noreferrer" target="_blank">'
        "a</a></p>"
    ),
}


def test_markdown_becomes_elements_and_never_markup(server: Server, tmp_path: Path) -> None:
    with browsing(tmp_path) as tab:
        tab.call("Page.navigate", url=server.url)
        tab.until("typeof markdown === 'function'")
        for text, expected in MARKDOWN.items():
            made = f"element('div', ...markdown({json.dumps(text)})).innerHTML"
            assert tab.evaluate(made) == expected


def test_nothing_but_the_pages_own_script_runs(server: Server, tmp_path: Path) -> None:
    policy = httpx.get(server.url).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    with browsing(tmp_path) as tab:
        tab.call("Page.navigate", url=server.url)
        tab.until("typeof markdown === 'function'")
        add = "const s = document.createElement('script'); s.textContent = 'window.evil = 1';"
        tab.evaluate(f"(() => {{ {add} document.body.append(s); }})(); 0")
        assert tab.evaluate("window.evil === undefined")
        assert tab.evaluate("getComputedStyle(document.body).maxWidth") != "none"
