"""Measures servers with many clients, for `python -m benchmarks.load`."""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.common import table
from benchmarks.contenders.work import Prompt, Work
from benchmarks.race import machine
from benchmarks.servers import Server, bodies, listed, llama_server, ours, samples
from benchmarks.standings import same
from benchmarks.traffic import Body, Traffic, arriving, percentile, together
from runtime.answers import clean
from runtime.common import figures

OURS, THEIRS = "this server", "llama-server's engine"
# Enough to measure the speed; only this server's memory is watched for longer.
THEIR_MINUTES = 3
# Share of the time after which every buffer has been used, so that memory can be compared.
_WARM = 0.1
_TURN_SECONDS = 60
# Of arrival, as shares of the list's speed.
_RATES = (0.25, 0.5, 0.7, 0.85, 1.0)


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
    work, routes = samples()
    options.out.mkdir(parents=True, exist_ok=True)
    speed, expected = listed(work)
    speeds = [speed]
    rates = [share * speed for share in _RATES]
    results = []
    with ExitStack() as running:
        server = running.enter_context(ours(work, routes))
        body = bodies(work)
        results.append(under_load(OURS, server, body, work, expected, rates, options))
        speed, expected = listed(work)
        speeds.append(speed)
        if options.peers_python:
            peer = running.enter_context(llama_server(options.peers_python, work))
            their_body = bodies(work, list(routes))
            results.append(under_load(THEIRS, peer, their_body, work, expected, rates, options))
            both = (results[0], server, body), (results[1], peer, their_body)
            for _ in range(options.turns):
                for result, asked, asks in both:
                    traffic = together(asked.address, asks, options.clients, _TURN_SECONDS)
                    result.turns.append(traffic.rate)
                    print(f"{result.name}, in turn: {traffic.rate:.2f} answers/s", file=sys.stderr)
    kept = {
        "machine": machine(),
        "listed": speeds,
        "slots": work.slots,
        "threads": work.threads,
        "new_tokens": work.new_tokens,
        "questions": len(work.prompts),
        "clients": options.clients,
        "minutes": options.minutes,
        "results": [asdict(result) for result in results],
    }
    (options.out / "results.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    text = report(results, speeds, options)
    (options.out / "table.md").write_text(text + "\n", encoding="utf-8")
    picture(results, options.out / "load.png")
    print(text)
