"""An evaluation from start to end: call, judge, score, report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evaluation import guessing, machine, protocol, report, score
from evaluation.agreement import agreement
from evaluation.errors import EvaluationError
from evaluation.journal import Call, RunJournal, hashes
from evaluation.judges import judge
from evaluation.judges.model import NAME as MODEL
from evaluation.judging import Judging, Pair
from evaluation.questions import Questions
from evaluation.records import Item, Result, Run, Summary, Verdict
from runtime.common.command import explain
from runtime.common.lock import locked

# The verdict on a missing answer.
NO_ANSWER = Verdict(False, 0.0, "none", "no answer")


@dataclass(frozen=True)
class Plan:
    """The input of an evaluation.

    Attributes:
        pipeline: the place of its loadPipeline; see `evaluation.worker.find`.
        folder: of the report; its name is the name of the run.
        setup_timeout, timeout: seconds for loading, and for the call.
        resume: continue a stopped evaluation in the folder.
        hide: hide questions and reports from the pipeline, where the system allows it.
    """

    questions: Questions
    pipeline: str
    folder: Path
    judging: Judging
    setup_timeout: float
    timeout: float
    resume: bool = False
    hide: bool = True


def evaluate(plan: Plan, tell: Callable[[str], None] = lambda stage: None) -> Summary:
    """Evaluate a pipeline and write its report.

    Args:
        tell: called with each stage.

    Raises:
        EvaluationError: there is no such pipeline, or the folder has a stopped evaluation.
        UserError: another evaluation is using the folder.
        OSError: the folder cannot be written.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    with (
        locked(plan.folder),
        RunJournal(
            plan.folder, plan.pipeline, plan.questions, plan.judging.name, plan.resume
        ) as journal,
    ):
        if journal.call is None:
            journal.write_call(_call(plan, tell))
        else:
            tell(f"continuing with the answers of {journal.call.created}")
        call = journal.call
        assert call is not None
        results = judge_all(plan.questions, call.run, plan.judging, journal)
        results = beside_the_rules(plan.questions, results)
        results, guessed = without_guessing(plan.questions, results)
        summary = summarize(plan, call, results, guessed)
        try:
            report.write(plan.folder, summary, results)
        except OSError as error:
            kept = "the answers are kept: free some space and continue with --resume"
            lost = "and the answers could not be kept: free some space and evaluate again"
            raise EvaluationError(
                f"{explain(error)}; {kept if journal.resumable else lost}"
            ) from None
        journal.finish()
    return summary


def _call(plan: Plan, tell: Callable[[str], None]) -> Call:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    run = protocol.call(
        plan.pipeline,
        plan.questions.records,
        plan.folder / "pipeline.log",
        plan.setup_timeout,
        plan.timeout,
        tell,
        [*plan.questions.paths, plan.folder.parent] if plan.hide else None,
    )
    return Call(
        pipeline=plan.pipeline,
        questions_sha256=plan.questions.sha256,
        machine=machine.describe(),
        created=created,
        run=run,
        sources=hashes(run.sources),
    )


def judge_all(
    questions: Questions, run: Run, judging: Judging, journal: RunJournal | None = None
) -> list[Result]:
    """The result of each scored question, in order; shows a progress bar on a terminal."""
    pairs = [
        (item, answer)
        for item, answer in zip(questions.items, run.answers, strict=True)
        if item is not None
    ]
    verdicts: dict[Any, Verdict] = {}
    todo: list[Pair] = []
    for item, answer in pairs:
        kept = NO_ANSWER if answer is None else journal and journal.kept(item, answer)
        if kept:
            verdicts[item.id] = kept
        else:
            todo.append((item, answer or ""))
    for (item, answer), verdict in _ask(judging, todo):
        verdicts[item.id] = verdict
        if journal:
            journal.write_verdict(item, answer, verdict)
    return [_result(item, answer or "", verdicts[item.id]) for item, answer in pairs]


def _ask(judging: Judging, pairs: list[Pair]) -> Iterator[tuple[Pair, Verdict]]:
    if not pairs:  # do not load a model
        return
    with (
        judging.open() as judge_all_of,
        tqdm(total=len(pairs), unit="answer", desc="judging", disable=None) as bar,
    ):
        for first in range(0, len(pairs), judging.at_once):
            some = pairs[first : first + judging.at_once]
            yield from zip(some, judge_all_of(some), strict=True)
            bar.update(len(some))


def _result(item: Item, answer: str, verdict: Verdict) -> Result:
    return Result(
        questionID=item.id,
        subject=item.subject,
        difficulty=item.difficulty,
        question=item.question,
        references=list(item.references),
        choices=list(item.choices),
        answer=answer,
        correct=verdict.correct,
        score=verdict.score,
        judge=verdict.judge,
        reason=verdict.reason,
    )


def beside_the_rules(questions: Questions, results: Sequence[Result]) -> list[Result]:
    """Results with the verdict of the rules on each answer that a model judged."""
    beside = []
    for item, result in zip(filter(None, questions.items), results, strict=True):
        if result.judge == MODEL:
            verdict = judge(item, result.answer)
            told = {"rules": verdict.correct, "rules_reason": verdict.reason}
            result = result.model_copy(update=told)
        beside.append(result)
    return beside


def without_guessing(
    questions: Questions, results: Sequence[Result]
) -> tuple[list[Result], dict[str, guessing.Guessing]]:
    """Results with what each counts after guessing is taken off, and what is guessed by subject.

    Args:
        results: in the order of the scored questions.
    """
    items = [item for item in questions.items if item is not None]
    pairs = [(item, result.answer) for item, result in zip(items, results, strict=True)]
    guessed = guessing.measure(pairs)
    credited = []
    for (item, _), result in zip(pairs, results, strict=True):
        compared = item.subject in guessed and guessing.is_open(item)
        known = guessed[item.subject].known if compared else 1.0
        credited.append(result.model_copy(update={"credit": result.correct * known}))
    return credited, guessed


def summarize(
    plan: Plan, call: Call, results: list[Result], guessed: Mapping[str, guessing.Guessing]
) -> Summary:
    """The figures of a judged run."""
    run = call.run
    counted = score.credited([result.counted for result in results])
    accuracy = score.interval([result.correct for result in results])
    return Summary(
        name=plan.folder.name,
        pipeline=call.pipeline,
        questions=plan.questions.name,
        questions_sha256=call.questions_sha256,
        machine=call.machine,
        judge=plan.judging.name,
        created=call.created,
        failure=run.failure,
        violations=run.violations,
        accuracy=accuracy,
        by_subject=score.accuracies(results, "subject"),
        by_difficulty=score.accuracies(results, "difficulty"),
        by_judge=dict(sorted(Counter(result.judge for result in results).items())),
        agreement=agreement([(r.correct, r.rules) for r in results if r.rules is not None]),
        without_guessing=counted,
        guessed={subject: each.others for subject, each in sorted(guessed.items())},
        latency=score.latency(run),
        setup_seconds=run.setup_seconds,
        peak_memory=run.peak_memory,
        peak_gpu_memory=run.peak_gpu_memory,
        hidden=run.hidden,
        why_not_hidden=run.why_not_hidden,
        gated=counted.mean < score.GATE,
    )


def read_baseline(folder: Path) -> Summary:
    """Read a stored run to compare speed with. Raises EvaluationError."""
    baseline = report.read_summary(folder)
    if reason := score.barred(baseline):
        raise EvaluationError(f"{folder}: this run cannot be a baseline: {reason}")
    return baseline
