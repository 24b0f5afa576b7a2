"""The report of a run: results.jsonl, summary.json and report.html in its folder.

report.html needs no other file, network or script; plots are SVG.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from pydantic import ValidationError

from evaluation import plots, score
from evaluation.errors import EvaluationError
from evaluation.records import Agreement, Interval, Result, Summary
from runtime.common.atomic import replacing
from runtime.common.files import read_bytes

# Wrong answers shown for each subject.
_WRONG = 5
# Of a longer answer the first `_SHORT` characters are shown; it can be expanded.
_LONG, _SHORT = 240, 200


def write(folder: Path, summary: Summary, results: Sequence[Result]) -> None:
    """Write the three files, each atomically. Raises OSError."""
    lines = [result.model_dump_json() + "\n" for result in results]
    _replace(folder / "results.jsonl", "".join(lines))
    _replace(folder / "summary.json", summary.model_dump_json(indent=2) + "\n")
    _replace(folder / "report.html", html(summary, results, _others(folder, summary)))


def _replace(target: Path, text: str) -> None:
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def read_summary(folder: Path) -> Summary:
    """The summary in a report's folder. Raises EvaluationError."""
    path = folder / "summary.json"
    try:
        return Summary.model_validate_json(read_bytes(path))
    except OSError as error:
        raise EvaluationError(
            f"{path}: cannot be read ({error.strerror}); pass the folder of a finished report"
        ) from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "as a whole"
        raise EvaluationError(
            f"{path}: not the summary of a run ({where}: {fault['msg']}); evaluate again"
        ) from None


def read_run(folder: Path) -> tuple[Summary, list[float]]:
    """A summary, and what each answer counts in the score, in order. Raises EvaluationError."""
    summary = read_summary(folder)
    path = folder / "results.jsonl"
    try:
        lines = read_bytes(path).splitlines()
        credits = [Result.model_validate_json(line).counted for line in lines]
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError:
        raise EvaluationError(f"{path}: not the results of a run; evaluate again") from None
    n, mean = summary.counted.n, summary.counted.mean
    if len(credits) != n or not math.isclose(sum(credits) / n, mean, abs_tol=1e-9):
        raise EvaluationError(
            f"{folder}: summary.json and results.jsonl come from different runs; evaluate again"
        )
    return summary, credits


def _others(folder: Path, summary: Summary) -> list[tuple[Summary, list[float]]]:
    """Comparable runs in the folders beside this one; damaged ones are skipped."""
    others = []
    for path in sorted(folder.parent.glob("*/summary.json")):
        if path.parent == folder:
            continue
        try:
            if not score.difference(summary, read_summary(path.parent)):
                others.append(read_run(path.parent))
        except EvaluationError:
            continue
    return others


@dataclass(frozen=True)
class Figure:
    """A figure of a run as text."""

    name: str
    value: str
    note: str = ""


def figures(summary: Summary) -> list[Figure]:
    """All figures of a run."""
    found = [
        Figure("accuracy", percent(summary.accuracy.mean), _between(summary.accuracy)),
        Figure("questions scored", str(summary.accuracy.n)),
    ]
    if known := summary.without_guessing:
        note = f"{_between(known)}; used by the score"
        found.insert(1, Figure("without guessing", percent(known.mean), note))
    if agreement := summary.agreement:
        found.append(Figure("kappa with the rules", _kappa(agreement), _agreed(agreement)))
    if latency := summary.latency:
        note = score.disturbance(summary) or "one call, end to end"
        found.append(Figure("latency", f"{seconds(latency.total)} s", note))
        found.append(Figure("per question", _short_time(latency.per_question)))
        if latency.p50 is not None and latency.p95 is not None:
            half, most = _short_time(latency.p50), _short_time(latency.p95)
            found.append(Figure("half ready after", half, f"95 % after {most}"))
        if latency.tokens_per_second is not None:
            found.append(Figure("new tokens", f"{latency.tokens_per_second:,.0f} /s"))
    found.append(Figure("loading", f"{seconds(summary.setup_seconds)} s", "not counted"))
    found.append(Figure("peak memory", _size(summary.peak_memory)))
    if summary.peak_gpu_memory is not None:
        found.append(Figure("peak GPU memory", _size(summary.peak_gpu_memory)))
    return found


def _kappa(agreement: Agreement) -> str:
    return "undefined" if agreement.kappa is None else f"{agreement.kappa:.2f}"


def _agreed(agreement: Agreement) -> str:
    told = f"they agree on {agreement.agree} of {agreement.n} answers"
    if agreement.low is None or agreement.high is None:
        return told
    return f"{agreement.low:.2f} – {agreement.high:.2f}; {told}"


def text(summary: Summary) -> str:
    """The summary as a table for a terminal."""
    rows = [(f.name, f.value, f.note) for f in figures(summary)]
    for part in (summary.by_subject, summary.by_difficulty):
        for name, each in part.items():
            note = f"{_between(each)}, {each.n} questions"
            if part is summary.by_subject and name in summary.guessed:
                note += f"; answers satisfy {percent(summary.guessed[name])} of others"
            rows.append((f"  {name}", percent(each.mean), note))
    judges = ", ".join(f"{n} by {judge}" for judge, n in summary.by_judge.items())
    head = [
        not_hidden(summary),
        f"{summary.name}: {summary.pipeline} on {summary.questions}",
        f"judged by {summary.judge}: {judges}",
    ]
    lines = [line for line in head if line]
    if summary.failure:
        lines.append(f"! the pipeline failed: {summary.failure}")
    lines += [f"! {violation}" for violation in summary.violations]
    lines += table(rows)
    if found := score.guessing(summary):
        lines.append(f"! {found}")
    if reason := score.barred(summary):
        lines.append(f"scores nothing: {reason}")
    return "\n".join(lines)


def not_hidden(summary: Summary) -> str:
    """A warning if the pipeline could read the right answers, else ""."""
    if summary.hidden:
        return ""
    return f"not hidden: the pipeline could read the right answers ({summary.why_not_hidden})"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def html(
    summary: Summary, results: Sequence[Result], others: Sequence[tuple[Summary, Sequence[float]]]
) -> str:
    """The page of a run; `others` are comparable runs, each with what its answers count."""
    standings = score.standings([(summary, [r.counted for r in results]), *others])
    drawn = [
        plots.runs([each.summary for each in standings], summary),
        plots.accuracy(summary.by_subject, "Accuracy per subject"),
        plots.accuracy(summary.by_difficulty, "Accuracy per difficulty")
        if summary.by_difficulty
        else None,
        plots.lengths(results),
        plots.time(summary.latency) if summary.latency else None,
    ]
    return render(
        "report.html",
        summary=summary,
        not_hidden=not_hidden(summary),
        barred=score.barred(summary),
        gate=score.GATE,
        figures=figures(summary),
        standings=standings,
        plots=[plot for plot in drawn if plot],
        wrong=_wrong(results),
        differing=[r for r in results if r.rules is not None and r.rules != r.correct],
        long=_LONG,
        short=_SHORT,
    )


def render(template: str, **values: Any) -> str:
    """Render a page. Every value is escaped: answers may contain anything."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "seconds": seconds,
        "moment": _moment,
        "disturbance": score.disturbance,
        "guessing": score.guessing,
    }
    return environment.get_template(template).render(**values)


def _wrong(results: Sequence[Result]) -> list[tuple[str, list[Result], int]]:
    """(subject, its wrong answers that are farthest off, how many there are)."""
    by_subject: dict[str, list[Result]] = {}
    for result in results:
        if not result.correct:
            by_subject.setdefault(result.subject, []).append(result)
    return [
        (subject, sorted(wrong, key=lambda result: result.score)[:_WRONG], len(wrong))
        for subject, wrong in sorted(by_subject.items())
    ]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def seconds(value: float) -> str:
    if value < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}"


def _moment(iso: str) -> str:
    """ "2026-01-31T12:00:59+00:00" as "2026-01-31 12:00 UTC"."""
    return f"{iso[:16].replace('T', ' ')} UTC"


def _short_time(value: float) -> str:
    return f"{seconds(value)} s" if value >= 1 else f"{1000 * value:.3g} ms"


def _between(share: Interval) -> str:
    return f"{100 * share.low:.0f} – {100 * share.high:.0f} %"


def _size(n: int) -> str:
    return f"{n / 2**30:.2f} GiB" if n >= 2**30 else f"{n / 2**20:.0f} MiB"
