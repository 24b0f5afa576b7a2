"""What `python -m benchmarks.load` measures: servers with many clients."""

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

from benchmarks.contenders.work import Prompt, Work
from benchmarks.race import SAMPLE_QUESTIONS, Contender, compete, machine, make_prompts
from benchmarks.servers import Server, environment_for, find_adapters, started
from benchmarks.standings import same
from benchmarks.traffic import Body, Traffic, arriving, percentile, together
from runtime.answers import clean
from runtime.common import figures
from runtime.common.errors import SetupError
from runtime.common.records import read_records
from runtime.engine.llama import physical_cores
from runtime.files import demo
from runtime.settings import PROJECT_DIR, Settings, declared_subjects

OURS, THEIRS = "this server", "llama-server's engine"
# Enough for a speed; that memory stays flat is a question to this server.
THEIR_MINUTES = 3
# Memory is compared from here on, as a share of the time: by then every buffer has been used.
_WARM = 0.1
_TURN_SECONDS = 60


@dataclass(frozen=True)
class Arrival:
    """Requests that arrived at random: how many a second, and how the first token came.

    Attributes:
        rate: requests per second.
        sent, missing: requests, and those without a whole answer.
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
        name: whose.
        sent, missing, doubled: requests; those without a whole answer; answers given twice.
        others: answers that are those to another question.
        equal: share of answers that are those of the list, but for a ragged end.
        rate: whole answers per second.
        memory: bytes when it was loaded, after a tenth of the time, and at the end.
        arrivals: one for each rate.
        problems: what was said of those that are missing, the first few.
        turns: whole answers per second when the servers had the clients in turn.
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


def asked(files: Sequence[Path]) -> list[dict[str, str]]:
    """The questions of files, each once; those without a text or a subject are left out."""
    names = ("questionID", "subject", "question")
    records = [record.value for path in files for record in read_records(path)]
    whole = [q for q in records if q and all(str(q.get(name) or "").strip() for name in names)]
    return list({q["question"].strip(): {name: q[name] for name in names} for q in whole}.values())


def bodies(prompts: Sequence[Prompt], new_tokens: int, adapters: Sequence[str] | None) -> Body:
    """Bodies of requests that ask the prompts in turn.

    Args:
        adapters: the settings of subjects in the order of llama-server's adapters; None for this
            server, which knows subjects as models.
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
    """How many answers are those to another question, and the share that is the list's."""
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
    """Everything that is measured of one server."""
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
    """Everything as Markdown tables. `listed` is the list's answers per second, run by run."""
    speed = statistics.mean(listed)
    runs = ", ".join(f"{each:.2f}" for each in listed)
    lines = [
        f"`pipeline(list)`: {speed:.2f} answers/s ({runs}). {options.clients} clients for"
        f" {options.minutes:g} minutes ({THEIRS} for {min(options.minutes, THEIR_MINUTES):g}):",
        "",
        "| server | answers | missing | doubled | another's | the list's own | answers/s | × list"
        " | memory loaded / after a tenth / at the end, MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        memory = " / ".join(f"{each / 2**20:.0f}" for each in r.memory)
        lines.append(
            f"| {r.name} | {r.sent - r.missing} | {r.missing} | {r.doubled} | {r.others}"
            f" | {r.equal:.0%} | {r.rate:.2f} | {r.rate / speed:.2f} | {memory} |"
        )
    if len(results) == 2 and results[0].turns:
        ours, theirs = results
        ratio = statistics.median(a / b for a, b in zip(ours.turns, theirs.turns, strict=True))
        speeds = "; ".join(f"{r.name} {', '.join(f'{t:.2f}' for t in r.turns)}" for r in results)
        lines += [
            "",
            f"In turn, a minute each, answers/s: {speeds}. The median ratio is {ratio:.2f}.",
        ]
    lines += ["", "Seconds to the first token, requests arriving at random:", ""]
    lines += ["| server | arrivals/s | requests | missing | p50 | p95 |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for r in results:
        for a in r.arrivals:
            lines.append(
                f"| {r.name} | {a.rate:.2f} | {a.sent} | {a.missing} | {a.p50:.2f} | {a.p95:.2f} |"
            )
    lines += [""] + [f"- {r.name}: {problem}" for r in results for problem in r.problems]
    return "\n".join(lines).rstrip()


def picture(results: Sequence[Result], path: Path) -> None:
    """p50 and p95 of the time to the first token over the rate of arrival."""
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
    """Measure the servers that the command line names; files in --out, a table printed."""
    model = demo.ensure(Settings.load().models_dir)
    questions = asked(options.questions or [SAMPLE_QUESTIONS])[: options.count]
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
