"""The contenders of `python -m benchmarks.peers`, and their rounds."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks import standings as results
from benchmarks.common import command, read_questions
from benchmarks.contenders.work import Outcome, Prompt, Work
from benchmarks.shapes import make_adapters
from benchmarks.standings import BASELINE, OURS, Run, Standings
from runtime.answers import clean
from runtime.common.errors import SetupError
from runtime.common.machine import cpu_name, cpus
from runtime.engine import Model
from runtime.files import demo
from runtime.prompts import frame, prompt_tokens, tokenized_frame
from runtime.questions import parse
from runtime.settings import PROJECT_DIR, Settings, declared_subjects

ADAPTERS = ("one", "two", "three", "four")
_MAX_INPUT_TOKENS = 512
_SECONDS = 900.0  # for one run


@dataclass(frozen=True)
class Contender:
    """A module of `benchmarks.contenders` with its options.

    Attributes:
        name: for --only.
        label: description.
        page: name of the module.
        peer: whether it runs in the peers' environment.
        options: see the module.
    """

    name: str
    label: str
    page: str
    peer: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def contenders(slots: int, adapters: Sequence[Path]) -> list[Contender]:
    """All contenders for a number of slots; this pipeline uses the adapters."""
    paths = [str(path) for path in adapters]
    both = {"flash_attention": True}
    listed = [
        Contender(OURS, "this pipeline", "ours"),
        Contender(BASELINE, "create_chat_completion, one by one", "one_by_one", options=both),
        Contender(
            "one-by-one-default",
            "the same without flash attention, its default",
            "one_by_one",
            options={"flash_attention": False},
        ),
        Contender(
            "one-by-one-plain",
            "the same with weights as in the file, not repacked",
            "one_by_one",
            options={"flash_attention": True, "repack": False},
        ),
    ]
    for parallel in dict.fromkeys([1, 16, slots]):
        for unified in [False, True] if parallel > 1 else [False]:
            listed.append(
                Contender(
                    f"llama-server-{parallel}{'-unified' if unified else ''}",
                    f"llama-server's engine, {parallel} parallel"
                    f"{', unified cache' if unified else ''}",
                    "llama_server",
                    peer=True,
                    options={"parallel": parallel, "unified": unified},
                )
            )
    return [
        *listed,
        Contender("openvino", "OpenVINO GenAI, continuous batching", "openvino", peer=True),
        Contender("mistralrs", "mistral.rs, its Python Runner", "mistral_rs", peer=True),
        Contender("left-padding", "transformers, left padding", "left_padding"),
        Contender(
            "left-padding-peft",
            "transformers + peft, left padding, one adapter",
            "left_padding",
            options={"rank": 16},
        ),
        Contender(
            "ours-1-adapter",
            "this pipeline, one adapter for all",
            "ours",
            options={"adapters": paths[:1]},
        ),
        Contender(
            "ours-4-adapters", "this pipeline, four adapters", "ours", options={"adapters": paths}
        ),
    ]


def make_prompts(model: Path, questions: Sequence[dict[str, Any]], limit: int) -> list[Prompt]:
    """The prompts of this pipeline for the questions. Raises SetupError if one is too long."""
    subjects = declared_subjects()
    loaded = Model(model)
    prompts = []
    try:
        bos, eos = loaded.special_text("bos"), loaded.special_text("eos")
        for question, parsed in zip(questions, parse(list(questions)), strict=True):
            subject = subjects.of(parsed.subject)
            around = frame(loaded.chat_template, subject.instruction, bos, eos)
            ids = tokenized_frame(loaded, subject.name, subjects)
            tokens, cut = prompt_tokens(loaded, ids, parsed.text, limit)
            if cut:
                raise SetupError(
                    f"question {question['questionID']} is longer than {limit} tokens: leave it out"
                )
            prompts.append(Prompt(question, around.head + parsed.text + around.tail, tokens))
    finally:
        loaded.close()
    return prompts


def compete(contender: Contender, work: Work, python: Path, timeout: float) -> Outcome | str:
    """Run a contender; returns the outcome, or why there is none."""
    if not python.exists():
        return f"not installed ({python} does not exist): make bench-peers"
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "work.json"), Path(folder, "outcome.json")
        replace(work, options=contender.options).save(given)
        line, environment = command(
            f"benchmarks.contenders.{contender.page}", given, made, python=python
        )
        with Path(folder, "said").open("w+", encoding="utf-8", errors="replace") as said:
            try:
                status = subprocess.run(
                    line,
                    cwd=PROJECT_DIR,
                    env=environment | {"HF_HUB_OFFLINE": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    timeout=timeout,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                return f"not finished after {timeout:.0f} s"
            if made.exists():
                return Outcome(**json.loads(made.read_text(encoding="utf-8")))
            said.seek(0)
            return failure(said.read(), status)


def failure(said: str, status: int) -> str:
    """The output of a process that failed, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or "failed" in line or "panicked" in line]
    line = (errors or lines or ["no output"])[-1]
    return f"{line[:200]} (exit status {status})".replace("|", "/")


def machine() -> dict[str, str]:
    """This machine: CPU, cores, memory, system."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    flags = re.search(r"^flags\s*:(.*)", text, re.MULTILINE)
    units = [f for f in (flags[1].split() if flags else []) if f.startswith(("avx", "fma", "amx"))]
    return {
        "CPU": f"{cpu_name()}, {' '.join(units)}",
        "cores": f"{cpus().cores} of {os.cpu_count()} logical",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
        "Python": platform.python_version(),
    }


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(asked, cwd=PROJECT_DIR, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def compare(arguments: argparse.Namespace) -> None:
    """Run the rounds of a command line; results go to --out, a table to standard output."""
    small = arguments.model == "demo"
    model = demo.ensure(Settings.load().models_dir) if small else Path(arguments.model).resolve()
    if not model.is_file():
        raise SetupError(f"{model}: no such file; python -m benchmarks.shapes makes one")
    slots = arguments.slots or (16 if small else 32)
    new_tokens = 64 if small else 32
    questions = read_questions(arguments.questions or [], arguments.count, 128 if small else 32)
    prompts = make_prompts(model, questions, _MAX_INPUT_TOKENS)
    work = Work(
        str(model),
        prompts,
        new_tokens,
        slots,
        cpus().cores,
        _MAX_INPUT_TOKENS + new_tokens,
    )
    setting = {
        "model": model.name,
        "bytes": model.stat().st_size,
        "questions": len(prompts),
        "prompts": hashlib.sha256(json.dumps([p.tokens for p in prompts]).encode()).hexdigest(),
        "prompt_tokens": sum(len(p.tokens) for p in prompts),
        "new_tokens": new_tokens,
        "slots": slots,
        "threads": work.threads,
        "cells": work.cells,
        "machine": machine(),
    }
    path = arguments.out / "results.json"
    if arguments.fresh:
        path.unlink(missing_ok=True)
    standings = Standings.open(path, setting)
    adapters = make_adapters(model, arguments.out / "adapters", ADAPTERS)
    chosen = _chosen(contenders(slots, adapters), arguments)
    mine = {contender.name for contender in chosen}
    done = max((run.round for run in standings.runs if run.contender in mine), default=0)
    for number in range(done + 1, done + 1 + arguments.rounds):
        turn = (number - 1) % len(chosen)
        for contender in chosen[turn:] + chosen[:turn]:
            _run(contender, number, work, small, standings, arguments)
            standings.save(path)
    text = "\n\n".join(
        [
            f"{setting['questions']} questions ({setting['prompt_tokens']} tokens) × {new_tokens}"
            f" new tokens on {model.name}, {slots} slots, {work.threads} threads; medians:",
            results.table(standings),
            "This pipeline is",
            results.summary(standings),
            results.builds(standings),
        ]
    )
    (arguments.out / "table.md").write_text(text + "\n", encoding="utf-8")
    results.picture(standings, arguments.out / "peers.png")
    print(text)


def _chosen(known: list[Contender], arguments: argparse.Namespace) -> list[Contender]:
    names = [contender.name for contender in known]
    for name in [*arguments.only, *arguments.skip]:
        if name not in names:
            raise SetupError(f"{name}: no such contender; choose from {', '.join(names)}")
    return [
        c
        for c in known
        if c.name not in arguments.skip and (c.name in arguments.only or not arguments.only)
    ]


def _run(
    contender: Contender,
    number: int,
    work: Work,
    is_demo: bool,
    standings: Standings,
    arguments: argparse.Namespace,
) -> None:
    """Run one contender in one round and add the result to the standings."""
    note = ""
    if is_demo and contender.name in ("openvino", "mistralrs"):
        work = replace(work, model=str(demo.packaged_file()))
        note = f"on the packaged Q4_1 file, as it cannot read {demo.QUANTIZATION}"
    python = arguments.peers_python if contender.peer else Path(sys.executable)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    busy = psutil.cpu_percent(interval=0.5) / 100
    outcome = compete(contender, work, python, _SECONDS)
    told = f"round {number}, {contender.name}: "
    run = Run(contender.name, contender.label, number, when, busy, note=note)
    texts: list[str] = []
    if isinstance(outcome, str):
        run = replace(run, problem=outcome)
        print(told + outcome, file=sys.stderr)
    else:
        texts = [
            text if contender.page == "ours" else clean(text, p.question["question"], cut=True)
            for text, p in zip(outcome.texts, work.prompts, strict=True)
        ]
        build = outcome.build
        if "this" in build:
            build = {**build, "this": f"{build['this']} ({_commit()})"}
        run = replace(
            run,
            load_seconds=outcome.load_seconds,
            answer_seconds=outcome.answer_seconds,
            new_tokens=outcome.new_tokens,
            peak_bytes=outcome.peak_bytes,
            build=build,
        )
        print(
            f"{told}load {run.load_seconds:.1f} s, answers {run.answer_seconds:.1f} s,"
            f" {run.new_tokens} new tokens, {run.peak_bytes / 2**30:.2f} GiB",
            file=sys.stderr,
        )
    if gone := standings.add(run, texts):
        print(f"{contender.name}: dropped {gone} runs of another build", file=sys.stderr)
