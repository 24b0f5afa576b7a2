"""Reports what base, adapter and gate gained, lost and cost: a page of Markdown and a picture."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.records import Item
from evaluation.score import interval
from kb.calibration import describe
from kb.comparing import Part
from runtime.common import figures
from runtime.common.atomic import replacing
from runtime.common.intervals import sign_test
from runtime.retrieval import Gate

BARE = "the model as it is"
_GATED, _ALWAYS = "gated passages", "passages always"
# The names of the ways that `kb.comparing` measures, with an adapter and without.
WITH_ADAPTER = {
    "off": "adapter",
    "gated": f"adapter and {_GATED}",
    "always": f"adapter and {_ALWAYS}",
}
WITHOUT_ADAPTER = {"off": BARE, "gated": _GATED, "always": _ALWAYS}
_LISTED = 20  # questions that were gained, and lost
_LONGEST = 160  # characters of an answer in a list


@dataclass(frozen=True)
class Findings:
    """The contents of a report.

    Attributes:
        subject, model: their names.
        items: the development questions.
        ways: the results by name of the way (see above); the first is compared with the others.
        shown: how many questions were shown passages, by way.
        gate: with the evidence for it.
        questions: how many there were to train on, and for the gate.
        seconds: of each step.
        files: what was made.
        served: environment variables that serve it.
    """

    subject: str
    model: str
    items: Sequence[Item]
    ways: Mapping[str, Part]
    shown: Mapping[str, int]
    gate: Gate
    questions: tuple[int, int]
    seconds: Mapping[str, float]
    files: Mapping[str, Path]
    served: Mapping[str, str]

    @property
    def gated(self) -> str:
        """The name of the way that is served."""
        return next(name for name in self.ways if name.endswith(_GATED))

    @property
    def without_passages(self) -> str:
        """The name of that way without passages."""
        names = list(self.ways)
        return names[names.index(self.gated) - 1]


def write(path: Path, findings: Findings) -> Path:
    """Write the report, and its picture beside it.

    Raises:
        OSError: a file cannot be written.
    """
    picture = path.with_suffix(".png")
    _draw(picture, findings)
    parts = [
        f"# Knowledge of {findings.subject}",
        _summary(findings),
        f"![right answers by way]({picture.name})",
        _table(findings),
        "## The gate",
        describe(findings.gate),
        "## What it cost",
        _costs(findings),
        "## Serving it",
        _serving(findings),
        *_lists(findings),
    ]
    with replacing(path) as partial:
        partial.write_text("\n\n".join(parts) + "\n", "utf-8", newline="\n")
    return path


def _summary(findings: Findings) -> str:
    first, n = next(iter(findings.ways)), len(findings.items)
    before, after = findings.ways[first], findings.ways[findings.gated]
    gained, lost = map(len, after.against(before))
    more = after.wall / before.wall if before.wall else 1.0
    learned, kept = findings.questions
    training = f"The adapter was trained on {learned} other questions. " if learned else ""
    return (
        f"Of {n} development questions, {findings.model} answers {sum(before.right.values())} right"
        f" as it is and {sum(after.right.values())} with {findings.gated}: {gained} gained and"
        f" {lost} lost (p = {sign_test(gained, lost):.3f}), in {more:.2f} times the time."
        f" {training}The gate was chosen and proved on {kept}: {findings.gate}."
    )


def _table(findings: Findings) -> str:
    lines = [
        "| | passages shown | right | 95 % interval | gained, lost | p | seconds | core seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    first = next(iter(findings.ways.values()))
    for name, part in findings.ways.items():
        share = interval(list(part.right.values()))
        gained, lost = map(len, part.against(first))
        against = "| |" if part is first else f"+{gained} −{lost} | {sign_test(gained, lost):.3f} |"
        lines.append(
            f"| {name} | {findings.shown[name]} of {share.n} | {sum(part.right.values())}"
            f" ({share.mean:.1%}) | {share.low:.0%} to {share.high:.0%} | {against}"
            f" {part.wall:.1f} | {part.processor:.1f} |"
        )
    by_passages = findings.ways[findings.gated].against(findings.ways[findings.without_passages])
    gained, lost = map(len, by_passages)
    note = (
        f"Gained and lost are against the first row; by the gated passages alone +{gained} −{lost}"
        f" (p = {sign_test(gained, lost):.3f}). Answers are greedy."
    )
    return "\n".join([*lines, "", note])


def _costs(findings: Findings) -> str:
    lines = ["| step | seconds |", "| --- | --- |"]
    asked = sum(s for name, s in findings.seconds.items() if name.startswith("answers: "))
    others = {n: s for n, s in findings.seconds.items() if not n.startswith("answers")}
    for name, seconds in {**others, "development questions": asked}.items():
        lines.append(f"| {name} | {seconds:.1f} |")
    lines += ["", "| file | MB |", "| --- | --- |"]
    for name, path in findings.files.items():
        lines.append(f"| {name}: {path} | {path.stat().st_size / 1e6:.1f} |")
    return "\n".join(lines)


def _serving(findings: Findings) -> str:
    served = dict(findings.served)
    if findings.gate.mode == "off":
        served = {name: value for name, value in served.items() if not name.startswith("RAG_")}
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in served.items())
    command = f"    {settings} \\\n        python -m runtime --input ... --output ..."
    if findings.gate.mode == "off":
        return f"No gate was proved, so passages are not shown.\n\n{command}"
    return command


def _lists(findings: Findings) -> list[str]:
    after, before = findings.ways[findings.gated], findings.ways[findings.without_passages]
    parts = []
    for what, numbers in zip(("Gained", "Lost"), after.against(before), strict=True):
        parts.append(f"## {what} by passages: {len(numbers)}")
        lines = []
        for n in numbers[:_LISTED]:
            item = findings.items[n]
            lines += [
                f"- {_line(item.question)} (right: {_line(item.references[0])})",
                f"  - without: {_line(before.answers[n])}",
                f"  - with: {_line(after.answers[n])}",
            ]
        if len(numbers) > _LISTED:
            lines.append(f"- and {len(numbers) - _LISTED} more")
        if lines:
            parts.append("\n".join(lines))
    return parts


def _line(text: str) -> str:
    """A text as a piece of a line of Markdown, shortened."""
    text = " ".join(text.split())
    short = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return "".join(f"\\{c}" if c in "\\`*_[]<>|" else c for c in short)


def _draw(path: Path, findings: Findings) -> None:
    """Right answers by way, with their 95 % intervals and the time of a question."""
    names = list(findings.ways)[::-1]
    shares = [interval(list(findings.ways[name].right.values())) for name in names]
    colours = [figures.MAIN if name == findings.gated else figures.PALE for name in names]
    with figures.axes(path, width=7, height=0.8 + 0.5 * len(names)) as axes:
        means = [100 * share.mean for share in shares]
        errors = [
            [100 * (share.mean - share.low) for share in shares],
            [100 * (share.high - share.mean) for share in shares],
        ]
        axes.barh(names, means, color=colours, xerr=errors, ecolor=figures.OTHER)
        for place, (name, share) in enumerate(zip(names, shares, strict=True)):
            each = findings.ways[name].wall / max(1, share.n)
            axes.annotate(
                f"{share.mean:.1%}, {each:.2f} s a question",
                (100 * share.high, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_xlabel(f"right answers to {len(findings.items)} questions, %")
        axes.set_xlim(0, 1.5 * max(1.0, *(100 * share.high for share in shares)))
