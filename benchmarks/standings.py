"""What contenders did, round after round: kept in a JSON file, read as a table and a picture."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from runtime.common import figures
from runtime.common.errors import SetupError

OURS, BASELINE = "ours", "one-by-one"
# Answers that agree in this many characters began with the same tokens.
_START = 16
# Answers that end in the middle of a character are shown, or continue, in several ways.
_RAGGED = 4
# Answers of this share more or fewer tokens are of like length.
_LIKE = 0.05
# More of the machine in use by others before a run, and its time is doubtful.
_BUSY = 0.25


@dataclass(frozen=True)
class Run:
    """One contender in one round.

    Attributes:
        contender: its name.
        label: what it is, for people.
        round: counted from 1.
        when: start, as ISO 8601.
        busy: share of the machine's cores that others used just before, 0 to 1.
        load_seconds, answer_seconds, new_tokens, peak_bytes, build: as `work.Outcome`.
        note: what is not the same for it as for the others, or "".
        problem: why there is no result, or "".
    """

    contender: str
    label: str
    round: int
    when: str
    busy: float
    load_seconds: float = 0.0
    answer_seconds: float = 0.0
    new_tokens: int = 0
    peak_bytes: int = 0
    build: dict[str, str] = field(default_factory=dict)
    note: str = ""
    problem: str = ""


@dataclass
class Standings:
    """All runs on one model with one set of questions.

    Attributes:
        setting: what was the same for all: model, questions, limits, machine.
        runs: in the order they were made.
        answers: each contender's latest texts, cleaned as the runtime cleans answers.
    """

    setting: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    answers: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, setting: dict[str, Any]) -> Self:
        """The standings kept in a file, or new ones.

        Raises:
            SetupError: those in the file were made in another setting.
        """
        if not path.exists():
            return cls(setting)
        kept = json.loads(path.read_text(encoding="utf-8"))
        before = kept["setting"]
        names = [n for n in {**before, **setting} if before.get(n) != setting.get(n)]
        if names:
            told = ", ".join(f"{n} was {before.get(n)!r}, is {setting.get(n)!r}" for n in names)
            raise SetupError(f"{path} was made in another setting ({told}): give another --out")
        return cls(setting, [Run(**run) for run in kept["runs"]], kept["answers"])

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")

    def add(self, run: Run, texts: Sequence[str] = ()) -> int:
        """Take a run in; runs of the same contender in another build give way to it.

        Returns:
            how many runs gave way.
        """
        stale = [
            old
            for old in self.runs
            if old.contender == run.contender
            and (old.build != run.build or bool(old.problem) != bool(run.problem))
        ]
        self.runs = [old for old in self.runs if old not in stale] + [run]
        if texts:
            self.answers[run.contender] = list(texts)
        return len(stale)

    def of(self, contender: str) -> list[Run]:
        """A contender's runs, those that came to something."""
        return [run for run in self.runs if run.contender == contender and not run.problem]

    def seconds(self, contender: str) -> float | None:
        """Median time of a contender's answers; None without any."""
        found = [run.answer_seconds for run in self.of(contender)]
        return statistics.median(found) if found else None

    def names(self) -> list[str]:
        """Contenders, the fastest first, those without a result last."""
        names = dict.fromkeys(run.contender for run in self.runs)
        return sorted(names, key=lambda name: self.seconds(name) or float("inf"))

    def ratio(self, contender: str, other: str) -> float | None:
        """How many times as fast as another; None where one has no result."""
        mine, theirs = self.seconds(contender), self.seconds(other)
        return theirs / mine if mine and theirs else None

    def alike(self, contender: str) -> tuple[float, float] | None:
        """Shares of answers that equal one by one's, and that begin as they do."""
        mine, theirs = self.answers.get(contender), self.answers.get(BASELINE)
        if not mine or not theirs:
            return None
        pairs = list(zip(mine, theirs, strict=True))
        equal = sum(same(a, b) for a, b in pairs)
        start = sum(a[:_START] == b[:_START] for a, b in pairs)
        return equal / len(pairs), start / len(pairs)


def same(one: str, other: str) -> bool:
    """Whether two texts are the same but for a ragged end, where a token limit cut them."""
    short, long = sorted((one.rstrip("\ufffd"), other.rstrip("\ufffd")), key=len)
    return long.startswith(short) and len(long) - len(short) <= _RAGGED


def table(standings: Standings) -> str:
    """All contenders as a Markdown table of medians, and what is to be said of each below it."""
    n = standings.setting["questions"]
    rows = [
        "| contender | seconds | questions/s | new tokens/s | × one by one | load, s | peak, GiB"
        " | new tokens | equal / same start | runs |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in standings.names():
        runs = standings.of(name)
        label = next(run.label for run in standings.runs if run.contender == name)
        if not runs:
            problem = next(run.problem for run in standings.runs if run.contender == name)
            rows.append(f"| {label} | no result: {problem} | | | | | | | | |")
            continue
        seconds = standings.seconds(name) or 0.0
        ratio, alike = standings.ratio(name, BASELINE), standings.alike(name)
        tokens = statistics.median(run.new_tokens for run in runs)
        label = f"**{label}**" if name == OURS else label
        rows.append(
            f"| {label} | {seconds:.1f} | {n / seconds:.2f}"
            f" | {tokens / seconds:.0f} | {f'{ratio:.2f}' if ratio else ''}"
            f" | {statistics.median(run.load_seconds for run in runs):.1f}"
            f" | {statistics.median(run.peak_bytes for run in runs) / 2**30:.2f}"
            f" | {tokens:.0f} | {f'{alike[0]:.0%} / {alike[1]:.0%}' if alike else ''}"
            f" | {len(runs)} |"
        )
    return "\n".join([*rows, "", *_remarks(standings)])


def _remarks(standings: Standings) -> list[str]:
    wanted = standings.setting["questions"] * standings.setting["new_tokens"]
    lines = []
    for name in standings.names():
        runs = standings.of(name)
        if not runs:
            continue
        said = list(dict.fromkeys(run.note for run in runs if run.note))
        if off := [r.new_tokens for r in runs if abs(r.new_tokens / wanted - 1) > _LIKE]:
            said.append(f"wrote {off[0]} new tokens, not {wanted}")
        seconds = [run.answer_seconds for run in runs]
        if max(seconds) > 1.2 * min(seconds):
            said.append(f"its runs took {min(seconds):.1f} to {max(seconds):.1f} s")
        if busy := [run.busy for run in runs if run.busy > _BUSY]:
            said.append(f"others used up to {max(busy):.0%} of the machine before {len(busy)} runs")
        lines += [f"- {runs[0].label}: {'; '.join(said)}."] if said else []
    return lines


def summary(standings: Standings) -> str:
    """How this pipeline stands against each kind of contender, a line each."""
    lines = []

    def against(others: Sequence[str], what: str) -> None:
        found = [name for name in others if standings.seconds(name)]
        if found and standings.seconds(OURS):
            best = min(found, key=lambda name: standings.seconds(name) or 0.0)
            ratio = standings.ratio(OURS, best)
            lines.append(f"- {ratio:.2f} times {what}" + (f" ({best})" if len(others) > 1 else ""))

    names = standings.names()
    against([BASELINE], "one by one")
    against([n for n in names if n.startswith("llama-server")], "llama-server's best")
    against(["openvino"], "OpenVINO GenAI")
    against(["mistralrs"], "mistral.rs")
    against(["left-padding"], "transformers with left padding")
    for name, other, what in (
        ("ours-1-adapter", OURS, "one adapter: {:.0%} of the speed without any"),
        ("ours-4-adapters", "ours-1-adapter", "four adapters: {:.0%} of one adapter's speed"),
    ):
        if (ratio := standings.ratio(name, other)) is not None:
            lines.append("- " + what.format(ratio))
    return "\n".join(lines)


def builds(standings: Standings) -> str:
    """The machine, and versions and builds, a line each."""
    lines = [f"- {name}: {value}" for name, value in standings.setting["machine"].items()]
    found: dict[str, str] = {}
    for run in standings.runs:
        found.update(run.build)
    return "\n".join(lines + [f"- {name}: {value}" for name, value in found.items()])


def picture(standings: Standings, path: Path) -> None:
    """Questions per second as bars, each with its ratio to one by one."""
    names = [name for name in standings.names() if standings.seconds(name)]
    if not names:
        return
    questions = standings.setting["questions"]
    speeds = [questions / (standings.seconds(name) or 1.0) for name in names]
    ratios = [standings.ratio(name, BASELINE) for name in names]
    labels = [standings.of(name)[0].label for name in names]
    texts = [
        f"{speed:.2f}" + (f"  ({ratio:.1f}×)" if ratio else "")
        for speed, ratio in zip(speeds, ratios, strict=True)
    ]
    height = 0.8 + 0.32 * len(names)
    colour = [figures.MAIN if name.startswith(OURS) else figures.OTHER for name in names]
    with figures.axes(path, 8, height) as axes:
        bars = axes.barh(labels, speeds, color=colour)
        axes.bar_label(bars, labels=texts, padding=3)
        axes.set_xlim(right=1.35 * max(speeds))
        axes.invert_yaxis()
        axes.set_xlabel("questions per second (times one by one)")
