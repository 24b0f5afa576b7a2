"""Forms of answers and further sampling parameters, as clients send them to the server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runtime import loadPipeline
from tests.conftest import small_settings
from tests.schemas import random_schema
from tests.serving import LORAS, Server, serving

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")
pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")
httpx = pytest.importorskip("httpx")

Json = dict[str, Any]
SUBJECTS = """
fallback = "general"

[general]
instruction = "Answer the question."

[colour]
instruction = "Name the colour."
choices = ["red", "green", "blue"]

[person]
instruction = "Describe the person as JSON."
schema = "person.json"
length = 4

[sums]
instruction = "Give the result."
tool = "algebra"
pattern = "x = -?[0-9]{1,4}"
"""
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON, "strict": True}}
GBNF = 'root ::= "(" [0-9]+ ")"'


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subjects")
    (folder / "person.json").write_text(json.dumps(PERSON))
    file = folder / "subjects.toml"
    file.write_text(SUBJECTS)
    return file


@pytest.fixture(scope="module")
def server(
    demo_model: Path, subjects: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    settings = {"SUBJECTS_FILE": str(subjects), "MAX_NEW_TOKENS": "64", "MIN_NEW_TOKENS": "20"}
    settings["ALGEBRA_TOOL"] = "exact"
    with serving(folder, "--batch-dir", folder / "batches", **settings) as server:
        yield server
        assert "Traceback" not in server.log.read_text("utf-8", "replace")


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[Any]:
    with httpx.Client(base_url=server.url, timeout=120) as http:
        yield http


def body(text: str = "Tell me about Anna, who is 30.", **more: Any) -> Json:
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **more}


def chat(http: Any, **more: Any) -> list[str]:
    response = http.post("/v1/chat/completions", json=body(**more))
    assert response.status_code == 200, response.text
    return [choice["message"]["content"] for choice in response.json()["choices"]]


def error(http: Any, **more: Any) -> Json:
    response = http.post("/v1/chat/completions", json=body(**more))
    assert response.status_code == 400, response.text
    return dict(response.json()["error"])


def is_person(text: str) -> bool:
    jsonschema.validate(json.loads(text), PERSON)
    return True


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"response_format": {"type": "json_object"}, "max_tokens": 1}, r"\{?"),
        ({"guided_choice": ["red", "blue"]}, "red|blue"),
        ({"structured_outputs": {"choice": ["red", "blue"]}}, "red|blue"),
        ({"guided_regex": r"\d{3}-[a-f]{2,5}x"}, r"\d{3}-[a-f]{2,5}x"),
        ({"structured_outputs": {"regex": r"\d{3}"}}, r"\d{3}"),
        ({"guided_grammar": GBNF}, r"\(\d+\)"),
        ({"structured_outputs": {"grammar": GBNF}}, r"\(\d+\)"),
        ({"grammar": GBNF}, r"\(\d+\)"),
        ({"grammar": 'start: "a" NUMBER\nNUMBER: /[0-9]{2}/'}, r"a\d\d"),
    ],
)
def test_every_way_to_ask_for_a_form(http: Any, fields: Json, pattern: str) -> None:
    (text,) = chat(http, **fields)
    assert re.fullmatch(pattern, text)


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": FORM},
        {"guided_json": PERSON},
        {"guided_json": json.dumps(PERSON)},
        {"structured_outputs": {"json": PERSON}},
        {"json_schema": PERSON},
    ],
)
def test_every_way_to_ask_for_a_schema(http: Any, fields: Json) -> None:
    assert all(map(is_person, chat(http, n=3, temperature=1.5, seed=3, **fields)))
    response = http.post("/v1/completions", json={**body(), "prompt": "JSON:", **fields})
    assert response.status_code == 200
    wanted = {"model": "demo", "prompt": ["A:", "B:"], "max_tokens": 60}
    response = http.post("/v1/completions", json={**wanted, **fields})
    assert all(is_person(choice["text"]) for choice in response.json()["choices"])


def test_a_stream_is_of_the_form(http: Any) -> None:
    sent = body(response_format=FORM, stream=True, temperature=1.2, seed=1)
    with http.stream("POST", "/v1/chat/completions", json=sent) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    events = [json.loads(line) for line in lines[:-1]]
    deltas = [event["choices"][0]["delta"].get("content", "") for event in events]
    assert is_person("".join(deltas))
    del sent["stream"]
    assert http.post("/v1/chat/completions", json=sent).json()["choices"][0]["message"][
        "content"
    ] == "".join(deltas)


def test_a_batch_keeps_to_forms(http: Any) -> None:
    lines = [
        {"custom_id": "a", "body": body(response_format=FORM)},
        {"custom_id": "b", "body": body(guided_choice=["red"])},
        {"custom_id": "c", "body": body(guided_choice=["red"], guided_regex="a")},
    ]
    common = {"method": "POST", "url": "/v1/chat/completions"}
    text = "\n".join(json.dumps({**line, **common}) for line in lines)
    file = http.post("/v1/files", files={"file": text}, data={"purpose": "batch"}).json()
    wanted = {"input_file_id": file["id"], "endpoint": common["url"], "completion_window": "24h"}
    batch = http.post("/v1/batches", json=wanted).json()
    while batch["status"] not in ("completed", "failed"):
        time.sleep(0.1)
        batch = http.get(f"/v1/batches/{batch['id']}").json()
    said = http.get(f"/v1/files/{batch['output_file_id']}/content").text
    found = {line["custom_id"]: line["response"] for line in map(json.loads, said.splitlines())}
    assert is_person(found["a"]["body"]["choices"][0]["message"]["content"])
    assert found["b"]["body"]["choices"][0]["message"]["content"] == "red"


def test_clients_with_forms_at_once_all_get_theirs(http: Any) -> None:
    schemas = [random_schema(1000 + number) for number in range(12)]

    def ask(schema: Json) -> str:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        return chat(http, response_format=form, temperature=1.5, seed=2, max_tokens=300)[0]

    with ThreadPoolExecutor(12) as pool:
        for schema, text in zip(schemas, pool.map(ask, schemas), strict=True):
            jsonschema.validate(json.loads(text), schema)


# --- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"guided_choice": ["a"], "guided_regex": "b"}, "guided_choice", "cannot both"),
        ({"grammar": GBNF, "response_format": FORM}, "grammar", "response_format and grammar"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs", "both"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "schema is missing"),
        ({"guided_choice": ["red"], "clean": True}, "clean", "never cleaned"),
        ({"guided_json": {"not": {"type": "string"}}}, "guided_json", "not"),
        ({"guided_regex": "("}, "guided_regex", "pattern"),
        ({"grammar": "root ::= nobody"}, "grammar", "nobody"),
        ({"json_schema": "x" * 300_000}, "json_schema", "300000 characters"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structural_tag", "not served"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(
    http: Any, fields: Json, param: str, said: str
) -> None:
    found = error(http, **fields)
    assert error(http, **fields) == found  # also where it is known to be wrong
    assert found["param"] == param
    assert said in found["message"]


def test_hostile_forms_hold_nobody_up(http: Any) -> None:
    slow = "(a|b)*a(a|b){300}"

    def hostile(number: int) -> int:
        with httpx.Client(base_url=http.base_url, timeout=120) as own:
            pattern = f"{slow}|{number}"
            sent = body(guided_regex=pattern, max_tokens=4)
            return int(own.post("/v1/chat/completions", json=sent).status_code)

    def free(_: int) -> float:
        began = time.monotonic()
        chat(http, max_tokens=2, guided_choice=["red"])
        return time.monotonic() - began

    chat(http, guided_choice=["red"])
    with ThreadPoolExecutor(12) as pool:
        sent = [pool.submit(hostile, number) for number in range(8)]
        assert max(map(free, range(6))) < 60
        assert {job.result() for job in sent} <= {200, 400, 500}


# --- forms that subjects declare ---------------------------------------------------------


def test_a_subjects_form_holds_in_lists_and_in_the_server(
    http: Any, subjects: Path, demo_model: Path
) -> None:
    texts = {"colour": "The sky?", "person": "Bob, 41.", "sums": "Solve for x: 3x + 4 = 19."}
    questions = [{"questionID": s, "subject": s, "question": text} for s, text in texts.items()]
    settings = small_settings(
        adapters_base_dir=LORAS,
        subjects_file=subjects,
        max_new_tokens=64,
        min_new_tokens=20,
        num_threads=1,
        algebra_tool="exact",
    )
    with loadPipeline(settings) as pipeline:
        listed = [answer["answer"] for answer in pipeline(questions)]
    served = [chat(http, model=s, text=text)[0] for s, text in texts.items()]
    assert served == listed
    colour, person, result = listed
    assert colour in ("red", "green", "blue")
    assert is_person(person)
    assert re.fullmatch(r"x = -?\d{1,4}", result)  # the model's, not the exact tool's


def test_a_requests_form_goes_before_the_subjects(http: Any) -> None:
    assert chat(http, model="colour", guided_choice=["purple"]) == ["purple"]


def test_raw_completions_are_free(http: Any) -> None:
    sent = {"model": "colour", "prompt": "One two three four", "max_tokens": 8}
    text = http.post("/v1/completions", json=sent).json()["choices"][0]["text"]
    assert text not in ("red", "green", "blue")


# --- further sampling parameters ---------------------------------------------------------


def tokens(http: Any, text: str) -> list[int]:
    sent = {"model": "demo", "prompt": text, "add_special_tokens": False}
    return list(http.post("/tokenize", json=sent).json()["tokens"])


def test_biases_in_either_form(http: Any) -> None:
    (zebra, *_) = tokens(http, "zebra")
    piece = http.post("/detokenize", json={"model": "demo", "tokens": [zebra]}).json()["prompt"]
    for bias in ({str(zebra): 100}, [[zebra, 100.0]]):
        assert chat(http, logit_bias=bias, max_tokens=2) == [piece * 2]
    plain, forbidden = chat(http, max_tokens=1), chat(http, max_tokens=1)
    (first, *_) = tokens(http, plain[0])
    forbidden = chat(http, max_tokens=1, logit_bias=[[first, False]])
    assert forbidden != plain
    assert error(http, logit_bias=[[True, 1]])["param"] == "logit_bias"
    assert error(http, logit_bias={"99999999": 1})["param"] == "logit_bias"


def test_words_and_tokens_that_must_not_or_must_be(http: Any) -> None:
    plain = chat(http, max_tokens=30)[0]
    word = next(word for word in plain.split()[2:] if word.isalpha())
    assert word not in chat(http, max_tokens=30, bad_words=[word])[0].split()
    allowed = tokens(http, "a b c")
    (text,) = chat(http, max_tokens=6, allowed_token_ids=allowed)
    assert set(text) <= set("a b c")


def test_what_ends_an_answer_can_stay_in_it(http: Any) -> None:
    plain = chat(http, max_tokens=30)[0]
    word = next(word for word in plain.split()[2:] if word.isalpha())
    cut, kept = (
        chat(http, max_tokens=30, stop=word, include_stop_str_in_output=keep)[0]
        for keep in (False, True)
    )
    assert kept == cut + word
    stop = tokens(http, plain)[3]
    ended = chat(http, max_tokens=30, stop_token_ids=[stop])[0]
    assert plain.startswith(ended)
    assert len(ended) < len(plain)


@pytest.mark.parametrize(
    "fields",
    [
        {"presence_penalty": 2.0},
        {"frequency_penalty": 2.0},
        {"repeat_penalty": 1.8},
        {"repeat_penalty": 1.8, "repeat_last_n": -1},
        {"repetition_penalty": 1.8},
    ],
)
def test_penalties_change_a_text_that_repeats(http: Any, fields: Json) -> None:
    text = "Write the word la ten times."
    assert chat(http, text=text, max_tokens=40, **fields) != chat(http, text=text, max_tokens=40)


def test_a_min_p_of_1_is_greedy(http: Any) -> None:
    greedy = chat(http, max_tokens=12)
    assert chat(http, max_tokens=12, temperature=2.0, seed=4, min_p=1.0) == greedy
    assert chat(http, max_tokens=12, temperature=2.0, seed=4) != greedy


def test_two_repetition_penalties_are_refused(http: Any) -> None:
    found = error(http, repeat_penalty=1.1, repetition_penalty=1.1)
    assert "not both" in found["message"]


def test_the_best_of_some_are_the_likeliest(http: Any) -> None:
    sent = body(temperature=1.5, seed=6, max_tokens=8, logprobs=True)
    written = http.post("/v1/chat/completions", json={**sent, "n": 5}).json()["choices"]
    shown = http.post("/v1/chat/completions", json={**sent, "n": 2, "best_of": 5}).json()
    del sent["logprobs"]
    silent = http.post("/v1/chat/completions", json={**sent, "n": 2, "best_of": 5}).json()

    def likelihood(choice: Json) -> float:
        scores = [entry["logprob"] for entry in choice["logprobs"]["content"]]
        return float(sum(scores) / len(scores))

    best = [choice["message"] for choice in sorted(written, key=likelihood, reverse=True)[:2]]
    assert [choice["message"] for choice in shown["choices"]] == best
    assert [choice["message"] for choice in silent["choices"]] == best
    assert [choice["index"] for choice in shown["choices"]] == [0, 1]
    assert shown["usage"]["completion_tokens"] >= 5
    assert error(http, n=3, best_of=2)["message"].endswith("best_of is below n")
    assert "not streamed" in error(http, n=1, best_of=2, stream=True)["message"]
