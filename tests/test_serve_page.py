"""The page at /, in a real browser, on a phone's screen and without a mouse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import CHROMIUM, browsing
from tests.serving import Server, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
KEY = "a secret"


@pytest.fixture(scope="module")
def server(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"ALGEBRA_TOOL": "off", "SERVE_API_KEY": KEY, "MAX_NEW_TOKENS": "200"}
    with serving(tmp_path_factory.mktemp("server"), **settings) as server:
        yield server


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
        assert "Paris" in tab.evaluate("document.getElementById('answer').textContent")
        facts = tab.evaluate("document.getElementById('facts').innerText")
        assert "geography" in facts
        assert "ms to the first token" in facts
        assert "nothing removed" in facts
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert (
            tab.evaluate("document.getElementById('answer').getAttribute('aria-busy')") == "false"
        )
        labels = (
            "[...document.querySelectorAll('input,select,textarea')].every(e => e.labels.length)"
        )
        assert tab.evaluate(labels)


def test_an_answer_streams_and_can_be_stopped(server: Server, tmp_path: Path) -> None:
    with browsing(tmp_path) as tab:
        tab.call("Page.navigate", url=server.url)
        tab.until("!document.getElementById('key-field').hidden")
        tab.evaluate(f"key.value = '{KEY}'; fillSubjects(); 0")
        tab.until("document.querySelectorAll('#subject option').length === 7")
        tab.evaluate("subject.value = 'demo'; question.value = 'Tell a long story.'; ask(); 0")
        assert tab.evaluate("waiting.hidden === (answer.textContent.length > 0)")
        tab.until("answer.textContent.length > 5 && answer.getAttribute('aria-busy') === 'true'")
        tab.evaluate("document.getElementById('stop').click(); 0")
        tab.until("answer.getAttribute('aria-busy') === 'false'")
        assert tab.evaluate("problem.textContent") == "Stopped."


def test_an_answer_that_was_cut_off_says_so(server: Server, tmp_path: Path) -> None:
    with browsing(tmp_path) as tab:
        tab.call("Page.navigate", url=server.url)
        tab.until("!document.getElementById('key-field').hidden")
        tab.evaluate(f"key.value = '{KEY}'; fillSubjects(); 0")
        tab.until("document.querySelectorAll('#subject option').length === 7")
        tab.evaluate("subject.value = 'demo'; question.value = 'Tell a long story.'; ask(); 0")
        tab.until("answer.getAttribute('aria-busy') === 'false'")
        assert "was cut off" in tab.evaluate("document.getElementById('cut').textContent")
