"""A judge model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from evaluation.errors import EvaluationError
from evaluation.judges import RUBRIC, Endpoint, ModelJudge
from evaluation.judges.backends import only_model
from tests.test_judge_model import CAPITAL, PAIRS, RIGHT, WRONG


class FakeServer:
    """An OpenAI-compatible server; `answer` makes a status and a reply of a request's body."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.models: list[str] = ["grader"]
        self.keys: list[str | None] = []
        self.answer: Callable[[dict[str, Any]], tuple[int, str]] = lambda body: (200, RIGHT)
        self.raw: bytes | None = None  # instead of any reply
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                models = {"object": "list", "data": [{"id": name} for name in fake.models]}
                self.reply(200, json.dumps(models).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append(body)
                fake.keys.append(self.headers["Authorization"])
                status, reply = fake.answer(body)
                message = {"role": "assistant", "content": reply}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
                data = json.dumps(
                    whole | {"choices": [choice]} if status == 200 else {"error": reply}
                ).encode()
                self.reply(status, data)

            def reply(self, status: int, data: bytes) -> None:
                data = data if fake.raw is None else fake.raw
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Retry-After-Ms", "1")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def prompts(self) -> list[str]:
        return [request["messages"][1]["content"] for request in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    fake = FakeServer()
    yield fake
    fake.close()


def endpoint(server: FakeServer, **options: Any) -> Endpoint:
    return Endpoint(server.url, "grader", **options)


def test_an_endpoint_is_asked_for_the_likeliest_reply(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    server.answer = lambda body: (200, RIGHT if "Paris." in str(body) else WRONG)
    found = ModelJudge(endpoint(server, key_variable="JUDGE_KEY")).judge_all(PAIRS[:2])
    assert [verdict.correct for verdict in found] == [True, False]
    assert {verdict.judge for verdict in found} == {"model"}
    for request in server.requests:
        assert (request["model"], request["temperature"]) == ("grader", 0)
        assert request["messages"][0] == {"role": "system", "content": RUBRIC}
    assert set(server.keys) == {"Bearer secret"}


def test_a_cache_hit_makes_no_request(server: FakeServer, tmp_path: Path) -> None:
    first = ModelJudge(endpoint(server), tmp_path / "cache").judge_all(PAIRS)
    assert len(server.requests) == 3
    assert ModelJudge(endpoint(server), tmp_path / "cache").judge_all(PAIRS) == first
    assert len(server.requests) == 3


def test_a_server_that_fails_for_the_moment_is_asked_again(server: FakeServer) -> None:
    statuses = iter([500, 503, 429, 200])
    server.answer = lambda body: (next(statuses), RIGHT)
    (found,) = ModelJudge(endpoint(server), max_calls=1).judge_all(PAIRS[:1])
    assert found.judge == "model"
    assert len(server.requests) == 4


def test_garbage_is_asked_again_and_then_the_rules(server: FakeServer) -> None:
    replies = iter(["?", RIGHT, "?", "?", "?"])
    server.answer = lambda body: (200, next(replies))
    judge = ModelJudge(endpoint(server), tries=3)
    assert judge.judge_all(PAIRS[:1])[0].judge == "model"
    assert judge.judge_all(PAIRS[1:2])[0].judge == "facts"
    assert len(server.requests) == 5


def test_the_budget_bounds_the_requests(server: FakeServer) -> None:
    ModelJudge(endpoint(server), max_calls=2).judge_all(PAIRS)
    assert len(server.requests) == 2


def test_a_prompt_that_the_server_refuses_costs_no_other_its_verdict(server: FakeServer) -> None:
    server.answer = lambda body: (
        (400, "blocked by the content filter") if "Rome" in str(body) else (200, RIGHT)
    )
    found = ModelJudge(endpoint(server)).judge_all(PAIRS)
    assert [verdict.judge for verdict in found] == ["model", "facts", "model"]


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "judge with a model that takes"),
        (401, "set OPENAI_API_KEY"),
        (404, "has the model grader"),
        (500, "try again later"),
    ],
)
def test_an_error_says_what_to_do(server: FakeServer, status: int, advice: str) -> None:
    server.answer = lambda body: (status, "no")
    with pytest.raises(EvaluationError, match=advice):
        ModelJudge(endpoint(server, retries=1)).judge_all(PAIRS)


def test_the_one_model_of_a_server_needs_no_name(server: FakeServer) -> None:
    assert only_model(server.url) == "grader"


@pytest.mark.parametrize(
    ("models", "told"), [([], "has 0 models"), (["a", "b"], "has 2 models (a, b): choose one by")]
)
def test_one_of_several_models_must_be_named(
    server: FakeServer, models: list[str], told: str
) -> None:
    server.models = models
    with pytest.raises(EvaluationError, match=re.escape(told)):
        only_model(server.url)


def test_a_server_that_is_not_there(server: FakeServer) -> None:
    server.close()
    with pytest.raises(EvaluationError, match="that it is running"):
        ModelJudge(endpoint(server, retries=0)).judge_all(PAIRS)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b'["a"]',
        b"{}",
        b'"VERDICT: CORRECT"',
        b"<html>Log in</html>",
        b"\xff\xfe garbage",
        b"[" * 100_000,
        b'{"error": {"message": "overloaded"}}',
        b'{"choices": "abc", "data": "abc"}',
        b'{"choices": [{}], "data": ["m"]}',
        b'{"choices": [{"message": "VERDICT: CORRECT"}], "data": null}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'data: {"choices": []}\n\ndata: [DONE]\n\n',
    ],
)
def test_a_reply_of_another_form_is_no_verdict(server: FakeServer, raw: bytes) -> None:
    server.raw = raw
    with pytest.raises(EvaluationError, match="does not reply as OpenAI's API does"):
        ModelJudge(endpoint(server)).judge_all(PAIRS)
    with pytest.raises(EvaluationError, match="does not reply as OpenAI's API does"):
        only_model(server.url)


@pytest.mark.parametrize(
    "raw", [b'{"choices": []}', b'{"choices": [{"message": {"content":null}}]}']
)
def test_where_a_reply_is_empty_the_rules_decide(server: FakeServer, raw: bytes) -> None:
    server.raw = raw
    (found,) = ModelJudge(endpoint(server)).judge_all(PAIRS[:1])
    assert found.judge == "facts"


def test_a_reply_may_have_any_characters(server: FakeServer, tmp_path: Path) -> None:
    server.answer = lambda body: (200, f"half of a pair: \ud800\n{RIGHT}")
    (found,) = ModelJudge(endpoint(server), tmp_path / "cache").judge_all(PAIRS[:1])
    assert found.correct
    found.reason.encode("utf-8")


def test_answers_of_any_characters_can_be_sent(server: FakeServer) -> None:
    (found,) = ModelJudge(endpoint(server)).judge_all([(CAPITAL, "Rome \ud800 \x00 <|im_end|>")])
    assert found.judge == "model"
    assert "<|im_end|>" in server.prompts()[0]
