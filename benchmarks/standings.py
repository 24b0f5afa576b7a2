"""Results of contenders, round by round: a JSON file, and a table and a picture of it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.common import table as markdown
from runtime.common import figures
from runtime.common.errors import SetupError

OURS, BASELINE = "ours", "one-by-one"
# Answers "start the same" if they agree in this many characters.
_START = 16
# Characters by which texts may differ at the end, where a token limit cut a character.
_RAGGED = 4
# Numbers of tokens that differ by more than this share are remarked on.
_LIKE = 0.05
# Share of the machine's cores in use by other programs above which a run is remarked on.
_BUSY = 0.25


@dataclass(frozen=True)
class Run:
    """One contender in one round.

    Attributes:
        contender, label: its name and description.
        round: counted from 1.
        when: start, as ISO 8601.
        busy: share of the machine's cores that other programs used just before, 0 to 1.
        load_seconds, answer_seconds, new_tokens, peak_bytes, build: see `work.Outcome`.
        note: how its conditions differ from those of the others, or "".
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
        setting: model, questions, limits and machine, the same for all runs.
        runs: in the order they were made.
        answers: each contender's latest texts, cleaned as the runtime cleans answers.
    """

    setting: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    answers: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, setting: dict[str, Any]) -> Self:
        """Read the standings from a file, or start new ones.

        Raises:
            SetupError: the file has another setting.
        """
        if not path.exists():
            return cls(setting)
        kept = json.loads(path.read_text(encoding="utf-8"))
        before = kept["setting"]
        names = [n for n in {**before, **setting} if before.get(n) != setting.get(n)]
        if names:
            told = ", ".join(f"{n} was {before.get(n)!r}, is {setting.get(n)!r}" for n in names)
            raise SetupError(f"{path} has another setting ({told}): choose another --out")
        return cls(setting, [Run(**run) for run in kept["runs"]], kept["answers"])

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")

    def add(self, run: Run, texts: Sequence[str] = ()) -> int:
        """Add a run and drop runs of the same contender in another build.

        Returns:
            how many runs were dropped.
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
        """A contender's runs that have a result."""
        return [run for run in self.runs if run.contender == contender and not run.problem]

    def seconds(self, contender: str) -> float | None:
        """Median time of a contender's answers; None without a result."""
        found = [run.answer_seconds for run in self.of(contender)]
        return statistics.median(found) if found else None

    def names(self) -> list[str]:
        """Names of the contenders, the fastest first, those without a result last."""
        names = dict.fromkeys(run.contender for run in self.runs)
        return sorted(names, key=lambda name: self.seconds(name) or float("inf"))

    def ratio(self, contender: str, other: str) -> float | None:
        """How many times as fast as another; None if one has no result."""
        mine, theirs = self.seconds(contender), self.seconds(other)
        return theirs / mine if mine and theirs else None

    def alike(self, contender: str) -> tuple[float, float] | None:
        """Shares of answers that equal those of one by one, and that start the same."""
        mine, theirs = self.answers.get(contender), self.answers.get(BASELINE)
        if not mine or not theirs:
            return None
        pairs = list(zip(mine, theirs, strict=True))
        equal = sum(same(a, b) for a, b in pairs)
        start = sum(a[:_START] == b[:_START] for a, b in pairs)
        return equal / len(pairs), start / len(pairs)


def same(one: str, other: str) -> bool:
    """Whether two texts are equal except at the end, where a token limit cut a character."""
    short, long = sorted((one.rstrip("\ufffd"), other.rstrip("\ufffd")), key=len)
    return long.startswith(short) and len(long) - len(short) <= _RAGGED


def table(standings: Standings) -> str:
    """All contenders as a Markdown table of medians, with remarks below it."""
    n = standings.setting["questions"]
    rows: list[list[object]] = []
    for name in standings.names():
        runs = standings.of(name)
        label, problem = next((r.label, r.problem) for r in standings.runs if r.contender == name)
        if not runs:
            rows.append([label, f"no result: {problem}", *[""] * 8])
            continue
        seconds = standings.seconds(name) or 0.0
        ratio, alike = standings.ratio(name, BASELINE), standings.alike(name)
        tokens = statistics.median(run.new_tokens for run in runs)
        rows.append(
            [
                f"**{label}**" if name == OURS else label,
                *(f"{seconds:.1f}", f"{n / seconds:.2f}", f"{tokens / seconds:.0f}"),
                f"{ratio:.2f}" if ratio else "",
                f"{statistics.median(run.load_seconds for run in runs):.1f}",
                f"{statistics.median(run.peak_bytes for run in runs) / 2**30:.2f}",
                f"{tokens:.0f}",
                f"{alike[0]:.0%} / {alike[1]:.0%}" if alike else "",
                len(runs),
            ]
        )
    head = (
        "contender | seconds | questions/s | new tokens/s | × one by one | load, s | peak, GiB"
        " | new tokens | equal / same start | runs"
    )
    return "\n".join([markdown(head, rows), "", *_remarks(standings)])


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
            said.append(
                f"other programs used up to {max(busy):.0%} of the machine before {len(busy)} runs"
            )
        lines += [f"- {runs[0].label}: {'; '.join(said)}."] if said else []
    return lines


def summary(standings: Standings) -> str:
    """This pipeline against each kind of contender, one line each."""
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
    """Machine, versions and builds, one line each."""
    lines = [f"- {name}: {value}" for name, value in standings.setting["machine"].items()]
    found: dict[str, str] = {}
    for run in standings.runs:
        found.update(run.build)
    return "\n".join(lines + [f"- {name}: {value}" for name, value in found.items()])


def picture(standings: Standings, path: Path) -> None:
    """A bar chart of questions per second, with the ratio to one by one."""
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
