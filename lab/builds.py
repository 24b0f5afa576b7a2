"""`python -m lab.builds`: builds of llama.cpp, on an idle and on a shared machine.

    python -m lab.builds                                    # the build in use
    python -m lab.builds --model models/Qwen3-1.7B-Q4_K_M.gguf \\
        gcc=FOLDER spin=FOLDER,GOMP_SPINCOUNT=1000 clang=FOLDER

Each contender is a folder with llama.cpp's libraries, and environment variables that are set
before they are loaded. It runs in a process of its own, and the order turns from round to round.

What is measured are single calls: prefill of 256 tokens, and decode steps of 1, 16 and 32
sequences, `--calls` of each, in tokens per second. `--busy N` measures it again with another
process that computes all the time at niceness N, `--pair` with two contenders of the same
kind side by side, whose tokens are counted together. Of the rounds the medians are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PREFILL_TOKENS = 256
DECODES = [1, 16, 32]
WORK = ["prefill", *(f"decode {n}" for n in DECODES)]
# Where in the context sequences are decoded.
DEPTH = 100


@dataclass(frozen=True)
class Contender:
    """Libraries in `folder` (None: those of the installed package) under `environment`."""

    name: str
    folder: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)


def contender(text: str) -> Contender:
    """Parse `NAME=FOLDER[,VARIABLE=VALUE...]`; an empty folder is the installed package's."""
    head, *variables = text.split(",")
    name, equals, folder = head.partition("=")
    pairs = [variable.partition("=") for variable in variables]
    if not equals or not all(name and sign for name, sign, _ in [(name, equals, ""), *pairs]):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER[,VARIABLE=VALUE...]")
    if folder and not list(Path(folder).glob("*llama*")):
        raise argparse.ArgumentTypeError(f"{folder}: no llama.cpp library in it")
    environment = {variable: value for variable, _, value in pairs}
    return Contender(name, Path(folder).resolve() if folder else None, environment)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lab.builds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("contenders", nargs="*", type=contender, metavar="NAME=FOLDER[,VAR=VALUE]")
    parser.add_argument("--model", type=Path, help="a GGUF file (default: the demo model)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--calls", type=int, default=20, help="for each figure (default: 20)")
    parser.add_argument("--threads", type=int, default=0, help="threads (default: one per core)")
    parser.add_argument("--busy", type=int, metavar="NICENESS", help="beside a busy process too")
    parser.add_argument("--pair", action="store_true", help="two side by side too")
    parser.add_argument("--no-idle", action="store_true", help="not on the idle machine")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    model = options.model
    if model is None:
        from runtime.files import demo
        from runtime.settings import PROJECT_DIR

        model = demo.ensure(PROJECT_DIR / "models")
    if options.work:
        work(model, options.calls, options.threads)
        return 0
    situations = [] if options.no_idle else ["idle"]
    situations += ["busy"] if options.busy is not None else []
    situations += ["pair"] if options.pair else []
    contenders = options.contenders or [Contender("installed")]
    command = ["--model", str(model), "--calls", str(options.calls)]
    command += ["--threads", str(options.threads)]
    speeds: dict[tuple[str, str], list[list[float]]] = {}
    for number in range(options.rounds):
        turn = number % len(contenders)
        for each in contenders[turn:] + contenders[:turn]:
            for situation in situations:
                with busy_process(options.busy if situation == "busy" else None):
                    measured = measure(each, command, 2 if situation == "pair" else 1)
                speeds.setdefault((each.name, situation), []).append(measured)
                print(f"{number + 1} {each.name} {situation}: {measured}", file=sys.stderr)
    print(report(speeds))
    return 0


def measure(each: Contender, command: list[str], processes: int) -> list[float]:
    """Tokens per second of each kind of work, summed over so many processes at a time."""
    environment = os.environ | each.environment
    if each.folder:
        environment["LLAMA_CPP_LIB_PATH"] = str(each.folder)
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "lab.builds", "--work", *command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    try:
        total = []
        _replies(workers)  # all have loaded the model
        for _ in WORK:
            for worker in workers:
                assert worker.stdin
                print("go", file=worker.stdin, flush=True)
            total.append(round(sum(_replies(workers)), 1))
        return total
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def _replies(workers: list[subprocess.Popen[str]]) -> list[float]:
    lines = [worker.stdout.readline() for worker in workers if worker.stdout]
    if not all(lines):
        raise SystemExit("a contender ended early: see its message above")
    return [json.loads(line) for line in lines]


@contextmanager
def busy_process(niceness: int | None) -> Iterator[None]:
    """Another process that computes meanwhile, unless `niceness` is None."""
    if niceness is None:
        yield
        return
    loop = f"import os\nos.nice({niceness})\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", loop])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def work(path: Path, calls: int, threads: int) -> None:
    """In a process of its own: one line when ready, then one for each line of stdin."""
    from runtime.engine import Model, physical_cores
    from runtime.engine.speeds import SingleCalls

    threads = threads or physical_cores()
    # The mean, as what a busy neighbour costs comes in bursts.
    with SingleCalls(
        Model(path), max(DECODES), PREFILL_TOKENS, threads, average=statistics.mean
    ) as single:
        print(0, flush=True)
        sys.stdin.readline()
        print(single.prefill(1, PREFILL_TOKENS, repeats=max(3, calls // 3)), flush=True)
        for n in DECODES:
            sys.stdin.readline()
            print(single.decode(n, DEPTH, repeats=calls), flush=True)


def report(speeds: dict[tuple[str, str], list[list[float]]]) -> str:
    """A Markdown table: tokens per second, and as a share of the same contender's idle speed."""
    lines = [
        f"| build | machine | {' | '.join(WORK)} |",
        "| --- | --- | " + " | ".join("---" for _ in WORK) + " |",
    ]
    medians = {
        key: [statistics.median(column) for column in zip(*rounds, strict=True)]
        for key, rounds in speeds.items()
    }
    for (name, situation), row in sorted(medians.items(), key=lambda item: item[0][1] != "idle"):
        idle = medians.get((name, "idle"))
        shares = [""] * len(row)
        if idle and situation != "idle":
            shares = [f" ({now / then:.0%})" for now, then in zip(row, idle, strict=True)]
        cells = [f"{value:.0f}{share}" for value, share in zip(row, shares, strict=True)]
        lines.append(f"| {name} | {situation} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
