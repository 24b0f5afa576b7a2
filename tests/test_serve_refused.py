"""Requests that are refused, and what is said of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.limited_server import CHAT, KEY, TINY, problem
from tests.serving import Server

pytest_plugins = ["tests.limited_server"]


def test_the_key_is_wanted_everywhere_but_where_nothing_is_to_be_had(limited: Server) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}):
        with httpx.Client(base_url=limited.url, headers=headers, timeout=60) as stranger:
            error = problem(stranger.post("/v1/completions", json=TINY), 401)
            assert error["code"] == "invalid_api_key"
            for path in ("/v1/models", "/tokenizer_info", "/v1/files", "/v1/nothing"):
                problem(stranger.get(path), 401)
            for path in ("/", "/health", "/version", "/metrics"):
                assert stranger.get(path).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model": "demo", "prompt": ',
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"model": "demo", "prompt": "A", "max_tokens": ' + b"9" * 5000 + b"}",
        b'{"model": "demo", "prompt": "A", "temperature": NaN}',
        b'{"model": "demo", "prompt": "A", "temperature": Infinity}',
        b'{"model": "demo", "prompt": "A", "logit_bias": {"5": NaN}}',
        b'{"model": "demo", "prompt": "A", "logit_bias": [[5, Infinity]]}',
    ],
    ids=range(13),
)
def test_what_is_no_body_is_refused(keyed: Any, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    error = problem(keyed.post("/v1/completions", content=body, headers=headers), 400)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "schema", "base"),
    [
        ("/v1/completions", "CompletionBody", TINY),
        ("/v1/chat/completions", "ChatBody", CHAT),
        ("/tokenize", "TokenizeBody", {"prompt": "A"}),
        ("/detokenize", "DetokenizeBody", {"tokens": [5]}),
    ],
)
def test_wrong_types_of_every_field_are_told(
    keyed: Any, path: str, schema: str, base: dict[str, Any]
) -> None:
    fields = keyed.get("/openapi.json").json()["components"]["schemas"][schema]["properties"]
    assert len(fields) >= 2
    strange = [True, 0.5, -7, "x", [], [None], [[]], {}, {"a": 1}, 2**70, "", "\x00", [{"role": 1}]]
    n_refused = 0
    for field in fields:
        for value in strange:
            body = {**base, field: value}
            if field == "stream" and value is True:
                continue
            response = keyed.post(path, json=body)
            if response.status_code != 200:
                error = problem(response, 404 if response.status_code == 404 else 400)
                n_refused += 1
                assert error["param"] in (field, None, "model", "messages", "prompt")
    assert n_refused > 6 * len(fields)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"stop": ""}, "stop"),
        ({"logprobs": 21}, "logprobs"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [10**8]}, "prompt"),
        ({"prompt": "A " * 3000}, "prompt"),
        ({"min_tokens": 5}, "min_tokens"),
        ({"suffix": "x"}, "suffix"),
        ({"model": "gpt-4"}, "model"),
    ],
)
def test_the_field_that_is_wrong_is_named(keyed: Any, more: dict[str, Any], param: str) -> None:
    body = {**TINY, **more}
    error = problem(keyed.post("/v1/completions", json=body), 404 if param == "model" else 400)
    assert error["param"] == param


def test_what_is_not_served_is_refused_and_not_ignored(keyed: Any) -> None:
    for more in (
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "xml"}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"stream_options": {"include_usage": True}},
    ):
        problem(keyed.post("/v1/chat/completions", json={**CHAT, **more}), 400)
    extra = {"user": "me", "store": False, "metadata": {"a": "b"}, "tools": []}
    assert keyed.post("/v1/chat/completions", json={**CHAT, **extra}).status_code == 200


def test_there_is_no_such_address_or_method(keyed: Any) -> None:
    problem(keyed.get("/v1/nothing"), 404)
    problem(keyed.get("/v1/completions"), 405)
    problem(keyed.post("/v1/load_lora_adapter", json={"lora_name": "a", "lora_path": "b"}), 403)
    problem(keyed.get("/v1/batches"), 501)


def test_a_body_that_is_sent_wrongly_is_told_how_to_be_sent(keyed: Any) -> None:
    body = json.dumps(TINY)
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl -d sends it
    error = problem(keyed.post("/v1/completions", content=body, headers=form), 400)
    assert "Content-Type: application/json" in error["message"]
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    content = gzip.compress(body.encode())
    error = problem(keyed.post("/v1/completions", content=content, headers=packed), 415)
    assert "Content-Encoding: gzip is not served" in error["message"]


def test_head_is_get_without_the_body(keyed: Any) -> None:
    for path in ("/health", "/", "/v1/models"):
        response = keyed.head(path)
        assert (response.status_code, response.content) == (200, b""), path
    problem(keyed.get("/v1/nothing"), 404)
    assert keyed.head("/v1/nothing").status_code == 404


def test_bodies_that_are_too_large_are_refused_and_take_no_memory(
    keyed: Any, limited: Server
) -> None:
    process = psutil.Process(limited.process.pid)
    before = process.memory_info().rss
    huge = b"x" * (100 * 2**20)
    headers = {"Content-Type": "application/json"}
    assert problem(keyed.post("/v1/completions", content=huge, headers=headers), 413)

    def pieces() -> Iterator[bytes]:  # with no length said before
        for _ in range(100):
            yield huge[: 2**20]

    assert problem(keyed.post("/v1/completions", content=pieces(), headers=headers), 413)
    assert process.memory_info().rss - before < 50 * 2**20
    assert keyed.post("/v1/completions", json=TINY).status_code == 200
