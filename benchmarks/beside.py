"""`python -m benchmarks.beside`: requests of people beside a long batch of one server.

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
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from runtime.common.command import parser_for, run

if TYPE_CHECKING:
    from benchmarks.traffic import Body

_PROJECT_DIR = Path(__file__).resolve().parents[1]
_URL = "/v1/completions"
_PATIENCE = 600.0  # seconds without a word from the server


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--model", type=Path, help="a GGUF file (default: the demo)")
    add("--batch", type=int, default=5000, help="lines of the batch (default: 5000)")
    add("--count", type=int, default=160, help="questions of the list (default: 160)")
    add("--seconds", type=float, default=30, help="of each of two measurements (default: 30)")
    add("--asks", type=int, default=12, help="single requests before the batch (default: 12)")
    add("--adapters", type=Path, default=_PROJECT_DIR / "loras", help="folder (default: loras)")
    add("--questions", type=Path, nargs="+", help="files with questions, taken in turn")
    add("--slots", type=int, default=16, help="questions decoded at once (default: 16)")
    add("--new-tokens", type=int, default=32, help="of each answer (default: 32)")
    add("--max-input-tokens", type=int, default=512, help="longest prompt (default: 512)")
    add("--threads", type=int, help="(default: one per core)")
    return run(_measure, parser.parse_args(argv), "stopped")


def _measure(options: argparse.Namespace) -> int:
    from benchmarks.clients import bodies
    from benchmarks.common import read_questions, table
    from benchmarks.contenders.work import Work
    from benchmarks.race import Contender, compete, make_prompts
    from benchmarks.servers import environment_for, find_adapters, started
    from runtime.common.errors import SetupError
    from runtime.engine.llama import physical_cores
    from runtime.files import demo
    from runtime.settings import Settings

    model = options.model or demo.ensure(Settings.load().models_dir)
    questions = [q for q in read_questions(options.questions or [], None) if q["subject"]]
    prompts = make_prompts(model, questions[: options.count], options.max_input_tokens)
    routes = find_adapters(options.adapters, questions) if options.model is None else {}
    cells = max(len(prompt.tokens) for prompt in prompts) + options.new_tokens
    threads = options.threads or physical_cores()
    work = Work(str(model), prompts, options.new_tokens, options.slots, threads, cells)
    work.options["adapters"] = [str(path) for path in routes.values()]
    contender = Contender("list", "pipeline(list)", "ours", options=work.options)
    listed = compete(contender, work, Path(sys.executable), 1800)
    if isinstance(listed, str):
        raise SetupError(f"pipeline(list) failed: {listed}")
    speed = len(prompts) / listed.answer_seconds
    print(f"pipeline(list): {speed:.2f} answers/s", file=sys.stderr)
    body = bodies(prompts, options.new_tokens, None)
    command = [sys.executable, "-m", "runtime.serve", "--port", "0", "--batch-dir"]
    with (
        TemporaryDirectory() as folder,
        started([*command, folder], environment_for(work, routes)) as server,
    ):
        address = server.address
        _waits(address, body, lambda n: n < 2)  # once for nothing
        alone = _waits(address, body, lambda n: n < options.asks)
        batch = _start(address, [body(number) for number in range(options.batch)])
        while _done(address, batch) < options.slots:
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
