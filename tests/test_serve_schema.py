"""Requests made of the server's own schema: whatever comes, no failure of ours, errors in form.

`SCHEMA_EXAMPLES=1000 python -m pytest tests/test_serve_schema.py` tries more of each address;
`-m "not slow"` sends 300 of the 2,000 requests of the last test.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.serving import Server, serving

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "40"))
Json = dict[str, Any]
WRONG = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**40, 0.5, -0.0, 1e308])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["", "\x00", "\ud800", "法国", "<|im_end|>", "demo", "auto", "/../x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def server(
    shallow_model: Path, shallow_loras: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    arguments = ("--batch-dir", folder / "batches", "--runtime-adapters")
    settings = {"MODELS_DIR": str(shallow_model.parent), "ADAPTERS_BASE_DIR": str(shallow_loras)}
    with serving(folder, *arguments, MAX_NEW_TOKENS="2", **settings) as server:
        yield server
        # Nothing that was sent has hurt it.
        assert httpx.get(f"{server.url}/health", timeout=60).json()["status"] == "ok"
        assert "Traceback" not in server.log.read_text("utf-8", "replace")


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[Any]:
    with httpx.Client(base_url=server.url, timeout=600) as http:
        yield http


def described() -> Json:
    """The schema of a server, without a model behind it."""
    from fastapi import FastAPI

    from runtime.serve import adapters
    from runtime.serve import app as routes
    from runtime.serve.batches import routes as batch_routes

    class Nothing:
        """Stands where a service would; routes ask it only when they are called."""

        catalog = None

    app, nothing = FastAPI(), Nothing()
    routes._add_answers(app, nothing)  # type: ignore[arg-type]
    routes._add_models(app, nothing)  # type: ignore[arg-type]
    routes._add_house(app, nothing, None)  # type: ignore[arg-type]
    batch_routes.add(app, None)
    adapters.add_routes(app, nothing, allowed=True)  # type: ignore[arg-type]
    return app.openapi()


SCHEMA = described()
OPERATIONS = [(method, path) for path, item in SCHEMA["paths"].items() for method in item]


def right(schema: Json) -> st.SearchStrategy[Any]:
    """Values that a schema allows, most of them, and small."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return st.deferred(lambda: right(SCHEMA["components"]["schemas"][name]))
    if "anyOf" in schema:
        return st.one_of([right(one) for one in schema["anyOf"]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if kind == "null":
        return st.none()
    if kind == "boolean":
        return st.booleans()
    if kind == "string":
        return st.text(min_size=schema.get("minLength", 0), max_size=12)
    if kind in ("integer", "number"):
        least = schema.get("minimum", schema.get("exclusiveMinimum", -5))
        most = schema.get("maximum", 2**40)
        edges = [least, most, min(most, least + 1), min(most, max(least, 2))]
        return st.sampled_from(edges)
    if kind == "array":
        return st.lists(right(schema["items"]), min_size=schema.get("minItems", 0), max_size=3)
    if kind == "object" and "properties" in schema:
        fields = {name: right(field) for name, field in schema["properties"].items()}
        wanted = {name: fields.pop(name) for name in schema.get("required", [])}
        return st.fixed_dictionaries(wanted, optional=fields)
    if kind == "object":
        return st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2)
    return WRONG


@st.composite
def body(draw: st.DrawFn, schema: Json) -> Any:
    """A body that is right, or has one field of any value, or is anything at all."""
    value = draw(right(schema))
    if "model" in value and draw(st.integers(0, 9)):
        value["model"] = draw(st.sampled_from(["demo", "auto", "history"]))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(WRONG)
    if kind < 6:
        name = schema.get("$ref", "").rpartition("/")[2]
        names = sorted(SCHEMA["components"]["schemas"][name]["properties"])
        value[draw(st.sampled_from(names))] = draw(WRONG)
    return value


def check(response: Any) -> None:
    """No failure of ours; what is refused is so in OpenAI's form."""
    status = response.status_code
    assert status < 500, response.text
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        *events, last = [line for line in response.text.splitlines() if line]
        assert last == "data: [DONE]"
        assert not any("server_error" in event for event in events)
    elif status >= 400:
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=map(" ".join, OPERATIONS))
def test_whatever_comes_is_answered_or_refused_in_form(http: Any, method: str, path: str) -> None:
    operation = SCHEMA["paths"][path][method]
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    parameters = operation.get("parameters", [])

    @settings(
        max_examples=EXAMPLES if schema or parameters else 1,
        deadline=None,
        database=None,
        derandomize=EXAMPLES == 40,  # CI always tries the same
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(data=st.data())
    def send(data: st.DataObject) -> None:
        address, query = path, {}
        for parameter in parameters:
            value = data.draw(right(parameter["schema"]) | st.text(max_size=6))
            text = str(value).encode("utf-8", "replace").decode()
            if parameter["in"] == "path":
                name = r"\{" + parameter["name"] + r"(:\w+)?\}"
                address = re.sub(name, quote(text, ""), address)
            else:
                query[parameter["name"]] = text
        if schema is None:
            check(http.request(method, address, params=query))
            return
        sent = json.dumps(data.draw(body(schema)))  # in ASCII, so half a surrogate can be sent
        headers = {"Content-Type": "application/json"}
        check(http.request(method, address, params=query, content=sent, headers=headers))

    send()


STRANGE = [None, True, 0.5, -7, 10**40, "", "x", "\x00", [], [None], [[]], {}, {"a": [{}]}]


def wrong_bodies() -> Iterator[tuple[str, Json]]:
    """Every field of both ways to ask, with values of every type."""
    asked = {"model": "demo", "max_tokens": 1}
    ways = [
        ("/v1/completions", "CompletionBody", {**asked, "prompt": "A"}),
        ("/v1/chat/completions", "ChatBody", {**asked, "messages": [{"role": "user"}]}),
    ]
    for path, name, base in ways:
        for field in SCHEMA["components"]["schemas"][name]["properties"]:
            yield from ((path, {**base, field: value}) for value in STRANGE)


def finished(response: Any) -> list[tuple[str, int]]:
    """The answers that a response brings to their end: the response's id, and which choice."""
    if response.status_code != 200:
        return []
    if response.headers["content-type"].startswith("text/event-stream"):
        lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
        parts = [json.loads(line) for line in lines[:-1]]
    else:
        parts = [response.json()]
    return [(p["id"], c["index"]) for p in parts for c in p["choices"] if c["finish_reason"]]


@pytest.mark.parametrize(
    "count",
    [pytest.param(300, marks=pytest.mark.quick), pytest.param(None, marks=pytest.mark.slow)],
)
def test_of_thousands_of_requests_none_is_lost_among_wrong_ones(
    http: Any, count: int | None
) -> None:
    """Every second is right, asks in words of its own, and gets its own answer, once.

    The others are all wrong bodies, or the first of them.
    """

    def right_body(number: int) -> Json:
        text = f"Number {number}:"
        subject = ("demo", "history", "geography")[number % 3]
        return {"model": subject, "prompt": text, "echo": True, "max_tokens": 1}

    wrong = list(wrong_bodies())[: count and count // 2]
    asked = [
        one
        for number, bad in enumerate(wrong)
        for one in (("/v1/completions", right_body(number)), bad)
    ]

    def send(request: tuple[str, Json]) -> list[tuple[str, int]]:
        path, body = request
        response = http.post(path, json=body)
        check(response)
        found = finished(response)
        if body.get("echo") is True and str(body["prompt"]).startswith("Number"):
            (choice,) = response.json()["choices"]
            assert choice["text"].startswith(body["prompt"])
            assert response.json()["model"] == body["model"]
        return found

    def counted() -> float:
        """The answers that the server says it has finished."""
        lines = http.get("/metrics").text.splitlines()
        ends = ('finished_reason="stop"', 'finished_reason="length"')
        return sum(
            float(line.split()[-1])
            for line in lines
            if line.startswith("vllm:request_success_total{") and any(end in line for end in ends)
        )

    before = counted()
    with ThreadPoolExecutor(16) as pool:
        answers = [answer for found in pool.map(send, asked) for answer in found]
    assert len(answers) >= len(wrong)
    assert len(set(answers)) == len(answers)
    assert counted() - before == len(answers)
    health = http.get("/health").json()
    assert (health["status"], health["running"], health["waiting"]) == ("ok", 0, 0)
