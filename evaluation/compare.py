"""The leaderboard of stored runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluation import plots, report, score
from runtime.common.atomic import replacing


def read(folders: Sequence[Path]) -> list[score.Standing]:
    """Read runs from the folders of their reports; returns them best first.

    Raises:
        EvaluationError: a folder without a report, or runs that cannot be compared.
    """
    return score.standings([report.read_run(folder) for folder in folders])


def text(standings: Sequence[score.Standing]) -> str:
    """The leaderboard as a table for a terminal."""
    head = ["#", "run", "score", "95 %", "accuracy", "without guessing", "of best", "seconds"]
    rows = [[*head, "of best"]]
    for rank, row in enumerate(standings, start=1):
        latency = row.summary.latency
        rows.append(
            [
                str(rank),
                row.summary.name,
                report.percent(row.score),
                "-" if row.barred else f"{report.percent(row.low)} – {report.percent(row.high)}",
                report.percent(row.summary.accuracy.mean),
                report.percent(row.summary.counted.mean),
                "-" if row.barred else report.percent(row.accuracy_share),
                report.seconds(latency.total) if latency else "-",
                "-" if row.barred else report.percent(row.latency_share),
            ]
        )
    lines = report.table(rows)
    lines += [f"{row.summary.name} scores nothing: {row.barred}" for row in standings if row.barred]
    lines += [
        f"{row.summary.name}: {found}"
        for row in standings
        for found in (score.guessing(row.summary), score.disturbance(row.summary))
        if found
    ]
    return "\n".join(lines)


def write(path: Path, standings: Sequence[score.Standing]) -> None:
    """Write the leaderboard as one HTML file. Raises OSError."""
    with replacing(path) as partial:
        plot = plots.runs([each.summary for each in standings])
        page = report.render("compare.html", standings=standings, plot=plot)
        partial.write_text(page, encoding="utf-8")
