"""Runs the commands of `python -m evaluation`."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path

from evaluation import compare, evaluate, gate, judging, machine, questions, report
from evaluation.errors import EvaluationError

SHORT_OF_THE_GATE = 3


def evaluate_pipeline(options: argparse.Namespace) -> int:
    """Evaluate a pipeline as the command line asks; returns the exit status."""
    for library in ("httpx", "httpx2"):  # which log a line for each request to a judge model
        logging.getLogger(library).setLevel(logging.WARNING)
    if (options.max_slowdown is None) != (options.baseline is None):
        raise EvaluationError("--max-slowdown and --baseline go together")
    pipeline = options.pipeline if ":" in options.pipeline else f"{options.pipeline}:loadPipeline"
    asked = questions.read(*options.questions)
    baseline = options.baseline and evaluate.read_baseline(options.baseline)
    if baseline:  # before the evaluation starts
        gate.refuse_incomparable(baseline, asked.sha256, machine.describe())
    plan = evaluate.Plan(
        questions=asked,
        pipeline=pipeline,
        folder=options.reports / (options.name or _name(pipeline)),
        judging=judging.choose(
            options.judge,
            options.judge_model,
            options.judge_name,
            options.judge_budget,
            cache=options.reports / "judge_replies.jsonl",
        ),
        setup_timeout=options.setup_timeout,
        timeout=options.timeout,
        resume=options.resume,
        hide=options.hide,
    )
    summary = evaluate.evaluate(plan, lambda stage: print(stage, file=sys.stderr))
    print(report.text(summary))
    print(f"report in {plan.folder / 'report.html'}", file=sys.stderr)
    if options.min_accuracy is None and baseline is None:
        return 0
    lines = gate.shortfalls(summary, options.min_accuracy, options.max_slowdown, baseline)
    for line in lines:
        print(f"gate: {line}", file=sys.stderr)
    for line in gate.doubts(summary, options.max_slowdown, baseline):
        print(f"warning: {line}", file=sys.stderr)
    return SHORT_OF_THE_GATE if lines else 0


def compare_reports(options: argparse.Namespace) -> int:
    """Print the leaderboard of stored runs; returns the exit status."""
    standings = compare.read(options.reports)
    print(compare.text(standings))
    if options.output:
        compare.write(options.output, standings)
        print(f"leaderboard in {options.output}", file=sys.stderr)
    return 0


def _name(pipeline: str) -> str:
    place = Path(pipeline.rpartition(":")[0])
    return re.sub(r"[^\w.-]", "-", place.resolve().stem if place.name in ("", "..") else place.stem)
