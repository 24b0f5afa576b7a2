"""`python -m lab.beside`: requests of people beside a long batch of one server.

One `pipeline(list)` answers some questions, for its speed. Then `runtime.serve` gets the same
questions, repeated, as a batch of OpenAI's: measured are the time to the first token of single
requests before the batch and beside it, and the batch's speed while nobody asks. The batch is not
waited for. All answers have the same number of tokens, greedy.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from runtime.common.command import parser_for, run

if TYPE_CHECKING:
    from benchmarks.traffic import Body

_URL = "/v1/completions"
_QUESTIONS = 160  # of the list
_ASKS = 12  # single requests before the batch
_PATIENCE = 600.0  # seconds without a word from the server


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--batch", type=int, default=5000, help="lines of the batch (default: 5000)")
    add("--seconds", type=float, default=30, help="of each of two measurements (default: 30)")
    return run(_measure, parser.parse_args(argv), "stopped")


def _measure(options: argparse.Namespace) -> int:
    from benchmarks.common import table
    from benchmarks.servers import bodies, listed, ours, samples

    work, routes = samples(_QUESTIONS)
    speed, _ = listed(work)
    body = bodies(work)
    with TemporaryDirectory() as folder, ours(work, routes, "--batch-dir", folder) as server:
        address = server.address
        _waits(address, body, lambda n: n < 2)  # once for nothing
        alone = _waits(address, body, lambda n: n < _ASKS)
        batch = _start(address, [body(number) for number in range(options.batch)])
        while _done(address, batch) < work.slots:
            time.sleep(0.2)
        quiet = _speed(address, batch, lambda: time.sleep(options.seconds))
        end = time.perf_counter() + options.seconds
        beside: list[float] = []
        asked = _speed(
            address,
            batch,
            lambda: beside.extend(
                _waits(address, body, lambda _: time.perf_counter() < end, pause=1.0)
            ),
        )
    rows = [
        [name, len(waits), *(f"{seconds:.3f}" for seconds in (statistics.median(waits), waits[-1]))]
        for name, waits in (("alone", alone), ("beside the batch", beside))
    ]
    print(table("first token | requests | median, s | longest, s", rows))
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"\nbeside / alone: {ratio:.2f}")
    print(
        f"the batch of {options.batch}: {quiet:.2f} answers/s while nobody asks,"
        f" {quiet / speed:.2f} of the list's {speed:.2f}; {asked:.2f} beside a request a second"
    )
    return 0


def _waits(
    address: str, body: Body, goes_on: Callable[[int], bool], pause: float = 0.0
) -> list[float]:
    """Seconds to the first token of requests one after another, ascending."""
    from benchmarks.traffic import Reply, ask
    from runtime.common.errors import SetupError

    waits: list[float] = []
    while goes_on(len(waits)):
        number = len(waits)
        reply = ask(address, body(number), Reply(number, time.perf_counter()), _PATIENCE)
        if reply.problem:
            raise SetupError(f"a request has no answer: {reply.problem}")
        waits.append(reply.wait)
        time.sleep(pause)
    return sorted(waits)


def _speed(address: str, batch: str, during: Callable[[], None]) -> float:
    """Answers of a batch per second during something."""
    before, began = _done(address, batch), time.perf_counter()
    during()
    return (_done(address, batch) - before) / (time.perf_counter() - began)


def _start(address: str, bodies: list[dict[str, Any]]) -> str:
    """Start a batch; returns its id."""
    lines = [
        {"custom_id": str(number), "method": "POST", "url": _URL, "body": body}
        for number, body in enumerate(bodies)
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    part = 'Content-Disposition: form-data; name="{}"'
    form = "\r\n".join(
        [
            *("--x", part.format("purpose"), "", "batch"),
            *("--x", part.format("file") + '; filename="a.jsonl"', "", text, "--x--", ""),
        ]
    )
    file = _call(address, "/v1/files", form, "multipart/form-data; boundary=x")
    wanted = {"input_file_id": file["id"], "endpoint": _URL, "completion_window": "24h"}
    return str(_call(address, "/v1/batches", json.dumps(wanted))["id"])


def _done(address: str, batch: str) -> int:
    """How many lines of a batch have their answer."""
    from runtime.common.errors import SetupError

    counts = _call(address, f"/v1/batches/{batch}")["request_counts"]
    if counts["failed"]:
        raise SetupError(f"{counts['failed']} lines of the batch failed")
    return int(counts["completed"])


def _call(address: str, path: str, body: str = "", kind: str = "application/json") -> Any:
    """The JSON that the server answers. Raises SetupError."""
    from runtime.common.errors import SetupError

    connection = http.client.HTTPConnection(address, timeout=_PATIENCE)
    try:
        method = "POST" if body else "GET"
        connection.request(method, path, body.encode(), {"Content-Type": kind} if body else {})
        response = connection.getresponse()
        said = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise SetupError(f"{path}: {response.status}: {said[:300].decode('utf-8', 'replace')}")
    return json.loads(said)


if __name__ == "__main__":
    sys.exit(main())
