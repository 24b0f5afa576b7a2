"""`python -m lab.memory`: loading and memory at the default settings, against `Llama()`.

    python -m lab.memory --model models/Qwen3-1.7B-Q4_K_M.gguf

Each line is a process of its own: `Llama()` with room for one of the longest questions, rounds
alternating with `loadPipeline()` (in which the prefixes of all subjects are decoded); then
`--short` questions of under 100 tokens, and `--long` questions of MAX_INPUT_TOKENS. Memory is
the largest resident size of the process, the mapped model file included. *pair* is two processes
with short questions side by side; memory that they share counts once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.contenders.work import peak_bytes
from runtime.common.command import parser_for, run

if TYPE_CHECKING:
    from runtime import Pipeline

GIB = 2**30
# In characters: well under 100 tokens, and more than MAX_INPUT_TOKENS, which cuts them.
SHORT = 250
LONG = 12_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("--model", default="demo", help="MODEL_NAME (default: demo)")
    parser.add_argument("--questions", type=Path, nargs="+", default=[], help="JSON Lines")
    parser.add_argument("--short", type=int, default=500, help="default: 500")
    parser.add_argument("--long", type=int, default=48, help="default: 48")
    parser.add_argument("--new-tokens", type=int, default=8, help="longest answer (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="of loading (default: 3)")
    parser.add_argument("--only", choices=["llama", "load", "short", "long", "pair"])
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return run(_measure, parser.parse_args(argv), "stopped")


def _measure(options: argparse.Namespace) -> int:
    if options.inside:
        print(json.dumps(_inside(options)))
        return 0
    names = ["load", "short", "long", "pair"] if options.only is None else [options.only]
    for name in names:
        if name == "load":
            _report_loading(options)
            continue
        if name == "pair":
            _report_pair(options)
            continue
        told = _run(options, name)
        print(
            f"{name}: {told['answered']} of {told['asked']} questions answered in"
            f" {told['seconds']:.0f} s, {told['peak'] / GIB:.2f} GiB"
            f" (the file and {(told['peak'] - told['file']) / GIB:.2f} GiB);"
            f" {told['layouts']} layouts of the cache"
        )
    return 0


def _report_loading(options: argparse.Namespace) -> None:
    told: dict[str, list[dict[str, Any]]] = {"llama": [], "load": []}
    for _ in range(options.rounds):
        for name, runs in told.items():
            runs.append(_run(options, name))
    llama = statistics.median(each["seconds"] for each in told["llama"])
    ours = statistics.median(each["seconds"] for each in told["load"])
    prefixes = statistics.median(each["prefixes"] for each in told["load"])
    print(
        f"load: Llama() {llama:.2f} s; loadPipeline() {ours:.2f} s, {prefixes:.2f} s of it for"
        f" prefixes; without them {(ours - prefixes) / llama:.2f} times Llama()"
    )


def _report_pair(options: argparse.Namespace) -> None:
    """Both processes at once; they are watched from outside, as shared memory counts once."""
    command, peak = _command(options, "short"), 0
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        while all(each.poll() is None for each in pair):
            with suppress(psutil.NoSuchProcess):
                sizes = [psutil.Process(each.pid).memory_full_info().pss for each in pair]
                peak = max(peak, sum(sizes))
            time.sleep(0.5)
        told = [json.loads(each.communicate()[0].splitlines()[-1]) for each in pair]
    finally:
        for each in pair:
            each.kill()
    answered, asked = (sum(each[key] for each in told) for key in ("answered", "asked"))
    print(
        f"pair: {answered} of {asked} questions answered, {peak / GIB:.2f} GiB together"
        f" (the file and {(peak - told[0]['file']) / GIB:.2f} GiB)"
    )


def _command(options: argparse.Namespace, name: str) -> list[str]:
    command = [sys.executable, "-m", "lab.memory", "--inside", "--only", name]
    command += ["--model", options.model, "--new-tokens", str(options.new_tokens)]
    command += ["--short", str(options.short), "--long", str(options.long)]
    if options.questions:
        command += ["--questions", *map(str, options.questions)]
    return command


def _run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    command = _command(options, name)
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return told


def _inside(options: argparse.Namespace) -> dict[str, Any]:
    # First: sets what llama.cpp's libraries read when they are loaded.
    import runtime.engine.library  # noqa: F401  # isort: skip

    import llama_cpp

    from runtime import Settings, loadPipeline
    from runtime.files.routes import plan_routes
    from runtime.overrides import Overrides

    settings = Settings.load(model_name=options.model)
    path = next(iter(plan_routes(settings).values())).model
    started = time.perf_counter()
    if options.only == "llama":
        cells = settings.max_input_tokens + settings.longest_answer
        llama_cpp.Llama(str(path), n_ctx=cells, verbose=False).close()
        return {"seconds": time.perf_counter() - started}
    with loadPipeline(settings) as pipeline:
        seconds = time.perf_counter() - started
        if options.only == "load":
            return {"seconds": seconds, "prefixes": _decode_prefixes(pipeline)}
        # Shorter answers take less time, but no less memory: the cache has its size by now.
        params, shorter = pipeline.way.params, Overrides({"max_new_tokens": options.new_tokens})
        pipeline.way.params = lambda subject, _: params(subject, shorter)  # type: ignore[method-assign, misc, assignment]
        asked = _long(options) if options.only == "long" else _short(options)
        started = time.perf_counter()
        answers = pipeline(asked)
        return {
            "seconds": time.perf_counter() - started,
            "asked": len(asked),
            "answered": sum(not a["answer"].startswith("ERROR") for a in answers),
            "file": path.stat().st_size,
            "layouts": pipeline.stats.resizes + 1,
            "peak": peak_bytes(),
        }


def _decode_prefixes(pipeline: Pipeline) -> float:
    (engine,) = pipeline.engines.values()
    saved = engine._slots.sharing.saved
    wanted = list(saved._saved)
    saved.clear()
    started = time.perf_counter()
    engine.share_prefixes(wanted)
    return time.perf_counter() - started


def _short(options: argparse.Namespace) -> list[dict[str, Any]]:
    from benchmarks.common import read_questions

    found = read_questions(options.questions, None)
    short = [question for question in found if len(question["question"]) < SHORT]
    return [{**short[n % len(short)], "questionID": n} for n in range(options.short)]


def _long(options: argparse.Namespace) -> list[dict[str, Any]]:
    from benchmarks.common import read_questions

    found = read_questions(options.questions, None, 500)
    words = " ".join(question["question"] for question in found)
    text = (words * (LONG // len(words) + 1))[:LONG]
    return [
        {"questionID": n, "subject": "general", "question": f"{n}. {text}"}
        for n in range(options.long)
    ]


if __name__ == "__main__":
    sys.exit(main())
