"""Measures servers with many clients, for `python -m benchmarks.load`."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from benchmarks.common import read_questions, table
from benchmarks.contenders.work import Prompt, Work
from benchmarks.race import Contender, compete, machine, make_prompts
from benchmarks.servers import Server, environment_for, find_adapters, started
from benchmarks.standings import same
from benchmarks.traffic import Body, Traffic, arriving, percentile, together
from runtime.answers import clean
from runtime.common import figures
from runtime.common.errors import SetupError
from runtime.engine.llama import physical_cores
from runtime.files import demo
from runtime.settings import PROJECT_DIR, Settings, declared_subjects

OURS, THEIRS = "this server", "llama-server's engine"
# Enough to measure the speed; only this server's memory is watched for longer.
THEIR_MINUTES = 3
# Share of the time after which every buffer has been used, so that memory can be compared.
_WARM = 0.1
_TURN_SECONDS = 60


@dataclass(frozen=True)
class Arrival:
    """Requests that arrived at random times.

    Attributes:
        rate: requests per second.
        sent, missing: requests, and those without a complete answer.
        p50, p95: seconds to the first token.
    """

    rate: float
    sent: int
    missing: int
    p50: float
    p95: float


@dataclass
class Result:
    """A server under load.

    Attributes:
        name: of the server.
        sent, missing, doubled: requests; those without a complete answer; answers given twice.
        others: answers that belong to another question.
        equal: share of answers that equal those of the list, see `standings.same`.
        rate: complete answers per second.
        memory: resident bytes after loading, after a tenth of the time, and at the end.
        arrivals: one for each rate.
        problems: why answers are missing, the first few.
        turns: complete answers per second when the servers took turns.
    """

    name: str
    sent: int
    missing: int
    doubled: int
    others: int
    equal: float
    rate: float
    memory: tuple[int, int, int]
    arrivals: list[Arrival] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)


def bodies(prompts: Sequence[Prompt], new_tokens: int, adapters: Sequence[str] | None) -> Body:
    """Request bodies with the prompts in turn.

    Args:
        adapters: settings of subjects in the order of llama-server's adapters; None for this
            server, where a subject is a model.
    """
    declared = declared_subjects()
    made = []
    for prompt in prompts:
        subject = declared.of(prompt.question["subject"])
        body = {
            "prompt": prompt.tokens,
            "max_tokens": new_tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
        if adapters is None:
            made.append({**body, "model": subject.name})
        else:
            chosen = {"id": adapters.index(subject.setting), "scale": 1.0}
            made.append({**body, "lora": [chosen]})
    return lambda number: made[number % len(made)]


def judge(
    traffic: Traffic, prompts: Sequence[Prompt], expected: Sequence[str]
) -> tuple[int, float]:
    """How many answers belong to another question, and the share that equals the list's."""
    wanted = set(expected)
    others = equal = whole = 0
    for reply in traffic.replies:
        if reply.problem:
            continue
        whole += 1
        place = reply.number % len(prompts)
        text = clean(reply.text, prompts[place].question["question"], cut=True)
        if same(text, expected[place]):
            equal += 1
        elif text in wanted:
            others += 1
    return others, equal / whole if whole else 0.0


def under_load(
    name: str,
    server: Server,
    body: Body,
    work: Work,
    expected: Sequence[str],
    rates: Sequence[float],
    options: argparse.Namespace,
) -> Result:
    """Measure one server."""
    loaded = server.resident()
    seconds = 60 * (options.minutes if name == OURS else min(options.minutes, THEIR_MINUTES))
    warm = [loaded]
    timer = threading.Timer(_WARM * seconds, lambda: warm.append(server.resident()))
    timer.start()
    traffic = together(server.address, body, options.clients, seconds)
    memory = (loaded, warm[-1], server.resident())
    others, equal = judge(traffic, work.prompts, expected)
    result = Result(
        name,
        traffic.sent,
        traffic.missing,
        traffic.doubled,
        others,
        equal,
        traffic.rate,
        memory,
        problems=[reply.problem for reply in itertools.islice(traffic.lost, 5)],
    )
    print(f"{name}: {result.rate:.2f} answers/s, {result.missing} missing", file=sys.stderr)
    for number, rate in enumerate(rates):
        arrived = arriving(server.address, body, rate, options.rate_seconds, seed=number)
        waits = arrived.waits()
        point = Arrival(
            rate, arrived.sent, arrived.missing, percentile(waits, 0.5), percentile(waits, 0.95)
        )
        result.arrivals.append(point)
        print(f"{name}: {point}", file=sys.stderr)
    return result


def report(results: Sequence[Result], listed: Sequence[float], options: argparse.Namespace) -> str:
    """All results as Markdown tables. `listed` has the list's answers per second, run by run."""
    speed = statistics.mean(listed)
    runs = ", ".join(f"{each:.2f}" for each in listed)
    head = (
        "server | answers | missing | doubled | another's | the list's own | answers/s | × list"
        " | memory loaded / after a tenth / at the end, MiB"
    )
    rows = [
        [
            *(r.name, r.sent - r.missing, r.missing, r.doubled, r.others, f"{r.equal:.0%}"),
            *(f"{r.rate:.2f}", f"{r.rate / speed:.2f}"),
            " / ".join(f"{each / 2**20:.0f}" for each in r.memory),
        ]
        for r in results
    ]
    lines = [
        f"`pipeline(list)`: {speed:.2f} answers/s ({runs}). {options.clients} clients for"
        f" {options.minutes:g} minutes ({THEIRS} for {min(options.minutes, THEIR_MINUTES):g}):",
        "",
        table(head, rows),
    ]
    if len(results) == 2 and results[0].turns:
        ours, theirs = results
        ratio = statistics.median(a / b for a, b in zip(ours.turns, theirs.turns, strict=True))
        speeds = "; ".join(f"{r.name} {', '.join(f'{t:.2f}' for t in r.turns)}" for r in results)
        lines += [
            "",
            f"In turn, a minute each, answers/s: {speeds}. The median ratio is {ratio:.2f}.",
        ]
    arrivals = [
        [r.name, f"{a.rate:.2f}", a.sent, a.missing, f"{a.p50:.2f}", f"{a.p95:.2f}"]
        for r in results
        for a in r.arrivals
    ]
    lines += ["", "Seconds to the first token, requests arriving at random:", ""]
    lines += [table("server | arrivals/s | requests | missing | p50 | p95", arrivals), ""]
    lines += [f"- {r.name}: {problem}" for r in results for problem in r.problems]
    return "\n".join(lines).rstrip()


def picture(results: Sequence[Result], path: Path) -> None:
    """Plot p50 and p95 of the time to the first token over the arrival rate."""
    with figures.axes(path) as axes:
        for result, colour in zip(results, [figures.MAIN, figures.OTHER], strict=False):
            rates = [arrival.rate for arrival in result.arrivals]
            for name, style in (("p50", "o-"), ("p95", "s--")):
                values = [getattr(arrival, name) for arrival in result.arrivals]
                axes.plot(rates, values, style, color=colour, label=f"{result.name}, {name}")
        axes.set_yscale("log")
        axes.set_xlabel("requests per second")
        axes.set_ylabel("seconds to the first token")
        axes.grid(True, which="both", alpha=0.3)
        axes.legend()


def measure(options: argparse.Namespace) -> None:
    """Measure the servers of a command line; writes files to --out and prints a table."""
    model = demo.ensure(Settings.load().models_dir)
    questions = [q for q in read_questions(options.questions or [], None) if q["subject"]]
    questions = questions[: options.count]
    prompts = make_prompts(model, questions, options.max_input_tokens)
    routes = find_adapters(options.adapters, questions)
    cells = max(len(prompt.tokens) for prompt in prompts) + options.new_tokens
    threads = options.threads or physical_cores()
    work = Work(str(model), prompts, options.new_tokens, options.slots, threads, cells)
    work = replace(work, options={"adapters": [str(path) for path in routes.values()]})
    options.out.mkdir(parents=True, exist_ok=True)
    listed: list[float] = []
    expected: list[str] = []

    def list_again() -> None:
        contender = Contender("list", "pipeline(list)", "ours", options=work.options)
        outcome = compete(contender, work, Path(sys.executable), 1800)
        if isinstance(outcome, str):
            raise SetupError(f"pipeline(list) failed: {outcome}")
        listed.append(len(prompts) / outcome.answer_seconds)
        expected[:] = outcome.texts
        print(f"pipeline(list): {listed[-1]:.2f} answers/s", file=sys.stderr)

    list_again()
    rates = [share * listed[0] for share in options.rates]
    results = []
    command = [sys.executable, "-m", "runtime.serve", "--port", "0"]
    with ExitStack() as running:
        ours = running.enter_context(started(command, environment_for(work, routes)))
        body = bodies(prompts, work.new_tokens, None)
        results.append(under_load(OURS, ours, body, work, expected, rates, options))
        list_again()
        if options.peers_python:
            given = options.out / "llama-server.json"
            replace(work, options={**work.options, "parallel": work.slots}).save(given)
            page = [options.peers_python, "-m", "benchmarks.contenders.llama_server_http", given]
            environment = {**os.environ, "PYTHONPATH": str(PROJECT_DIR)}
            theirs = running.enter_context(started(page, environment))
            their_body = bodies(prompts, work.new_tokens, list(routes))
            results.append(under_load(THEIRS, theirs, their_body, work, expected, rates, options))
            for _ in range(options.turns):
                for result, server, asks in zip(
                    results, (ours, theirs), (body, their_body), strict=True
                ):
                    traffic = together(server.address, asks, options.clients, _TURN_SECONDS)
                    result.turns.append(traffic.rate)
                    print(f"{result.name}, in turn: {traffic.rate:.2f} answers/s", file=sys.stderr)
    kept = {
        "machine": machine(),
        "listed": listed,
        "slots": work.slots,
        "threads": threads,
        "new_tokens": work.new_tokens,
        "questions": len(prompts),
        "clients": options.clients,
        "minutes": options.minutes,
        "results": [asdict(result) for result in results],
    }
    (options.out / "results.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    text = report(results, listed, options)
    (options.out / "table.md").write_text(text + "\n", encoding="utf-8")
    picture(results, options.out / "load.png")
    print(text)
