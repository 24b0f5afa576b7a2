"""The load benchmark: what counts as an answer, as lost, as doubled and as another's."""

from __future__ import annotations

import json
import threading
from argparse import Namespace
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.clients import Arrival, Result, judge, picture, report
from benchmarks.contenders.work import Prompt, Work
from benchmarks.servers import bodies, find_adapters
from benchmarks.traffic import Reply, Traffic, arriving, ask, percentile, together
from runtime.common.errors import SetupError

TEXTS = ["Paris is the capital.", "The Nile flows there."]
PROMPTS = [
    Prompt({"subject": "geography", "question": "Of France?"}, "", [1, 2]),
    Prompt({"subject": "history", "question": "Through Cairo?"}, "", [3]),
]


class Fake(BaseHTTPRequestHandler):
    """Answers as the body's `behaviour` says."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        behaviour = body["behaviour"]
        if behaviour == "refused":
            self.send_error(429)
            return
        self.send_response(200)
        self.end_headers()
        name = body.get("id", str(id(body)))
        choices: list[tuple[str, str | None]] = [("", None), ("Paris ", None), ("it is", None)]
        choices += [("", "length")] * {"whole": 1, "twice": 2}.get(behaviour, 0)
        for text, reason in choices:
            choice = {"text": text, "finish_reason": reason}
            self.say(json.dumps({"id": name, "choices": [choice]}))
        if behaviour == "error":
            self.say('{"error": {"message": "no"}}')
        if behaviour != "broken":
            self.say("[DONE]")

    def say(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Fake) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_whole_answer_has_its_text_and_the_time_of_its_first(address: str) -> None:
    reply = ask(address, {"behaviour": "whole", "id": "a"}, Reply(0, 0.0), 5)
    assert (reply.text, reply.id, reply.ends, reply.problem) == ("Paris it is", "a", 1, "")
    assert 0 < reply.first <= reply.done


@pytest.mark.parametrize(
    ("behaviour", "told"), [("refused", "429"), ("error", "no"), ("broken", "incomplete")]
)
def test_what_is_no_whole_answer_is_lost_and_says_why(
    address: str, behaviour: str, told: str
) -> None:
    assert told in ask(address, {"behaviour": behaviour}, Reply(0, 0.0), 5).problem


def test_a_server_that_is_not_there_is_a_loss_and_no_crash() -> None:
    assert "Error" in ask("127.0.0.1:9", {}, Reply(0, 0.0), 1).problem


def test_every_request_is_counted_once(address: str) -> None:
    def body(number: int) -> dict[str, Any]:
        kinds = ["whole", "whole", "twice", "broken"]
        return {"behaviour": kinds[number % 4], "id": f"id-{number}"}

    traffic = together(address, body, clients=4, seconds=0.5)
    assert sorted(reply.number for reply in traffic.replies) == list(range(traffic.sent))
    assert traffic.missing == sum(n % 4 == 3 for n in range(traffic.sent)) > 0
    assert traffic.doubled == sum(n % 4 == 2 for n in range(traffic.sent)) > 0


def test_an_id_that_comes_twice_is_a_doubled_answer() -> None:
    replies = [Reply(number, 0.0, id=name, ends=1) for number, name in enumerate("aab")]
    assert Traffic(3, 1.0, replies).doubled == 1
    assert Traffic(4, 1.0, replies).missing == 1  # one that nothing was heard of


def test_arrivals_do_not_wait_for_answers_and_come_at_their_rate(address: str) -> None:
    traffic = arriving(address, lambda _: {"behaviour": "whole"}, rate=100, seconds=1, seed=1)
    assert 60 < traffic.sent < 140
    assert len(traffic.waits()) == traffic.sent
    assert traffic.waits()[0] > 0


def test_percentiles() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.95) == 4.0


def test_an_answer_to_another_question_is_found_out() -> None:
    replies = [
        Reply(0, 0.0, text=TEXTS[0]),
        Reply(1, 0.0, text=TEXTS[0]),  # another's
        Reply(2, 0.0, text="Something else"),
        Reply(3, 0.0, text=TEXTS[1], problem="lost"),
    ]
    assert judge(Traffic(4, 1.0, replies), PROMPTS, TEXTS) == (1, 1 / 3)


def test_each_question_goes_to_its_subject_with_its_adapter() -> None:
    work = Work("m.gguf", PROMPTS, 8, 4, 1, 64)
    ours = bodies(work)
    assert [ours(n)["model"] for n in range(3)] == ["geography", "history", "geography"]
    order = ["PEFT_ADAPTER_GEOGRAPHY", "PEFT_ADAPTER_HISTORY"]
    theirs = bodies(work, order)
    assert theirs(1)["lora"] == [{"id": 1, "scale": 1.0}]
    assert theirs(1)["prompt"] == ours(1)["prompt"] == [3]


def test_a_subject_without_an_adapter_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="lora-geography"):
        find_adapters(tmp_path, [PROMPTS[0].question])


def test_the_report_and_the_picture_show_every_server(tmp_path: Path) -> None:
    arrivals = [Arrival(2.0, 20, 0, 0.1, 0.3), Arrival(4.0, 40, 1, 0.2, 0.9)]
    memory = (2**30, 2**30, 2**30)
    results = [
        Result("this server", 100, 0, 0, 0, 0.9, 8.0, memory, arrivals, turns=[6.0, 8.0, 9.0]),
        Result(
            "the other", 50, 1, 0, 0, 0.5, 4.0, memory, arrivals, ["504: late"], [3.0, 2.0, 3.0]
        ),
    ]
    text = report(results, [9.0, 11.0], Namespace(clients=64, minutes=10))
    assert "| this server | 100 | 0 | 0 | 0 | 90% | 8.00 | 0.80 | 1024 / 1024 / 1024 |" in text
    assert "| the other | 4.00 | 40 | 1 | 0.20 | 0.90 |" in text
    assert "504: late" in text
    assert "this server 6.00, 8.00, 9.00; the other 3.00, 2.00, 3.00" in text
    assert "The median ratio is 3.00." in text
    picture(results, tmp_path / "load.png")
    assert (tmp_path / "load.png").stat().st_size > 1000
