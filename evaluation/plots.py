"""The plots of a report, as SVG for its page.

Text stays text, in the page's font and colour, so that plots are readable on a phone, on paper and
in dark mode.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.records import Interval, Latency, Result, Summary
from runtime.common.figures import MAIN, OTHER, PALE

# Replaced by the page's text colour after drawing.
_INK = "#010203"
# Inches. On a phone 358 pixels wide, text of 9 points has 12 pixels.
_WIDTH = 3.6
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Plot:
    """A drawing with its heading; `svg` has a description for screen readers."""

    title: str
    svg: Markup
    note: str = ""


def runs(ranked: Sequence[Summary], this: Summary | None = None) -> Plot | None:
    """Accuracy against latency; None if no call ended.

    Names of runs may be long, so points are labelled with the run's rank, its row in the
    leaderboard. Labels of points at the same place are moved apart.

    Args:
        ranked: all runs, best first.
        this: the one to highlight, or None.
    """
    timed = [(rank, s, s.latency.total) for rank, s in enumerate(ranked, start=1) if s.latency]
    if not timed:
        return None
    figure, axes = _figure(2.7)
    longest = max(seconds for _, _, seconds in timed)
    taken: list[tuple[float, float]] = []
    # The highlighted run is drawn last.
    for _, summary, seconds in sorted(timed, key=lambda each: each[1] is this):
        axes.errorbar(
            seconds,
            100 * summary.accuracy.mean,
            yerr=_errors([summary.accuracy]),
            fmt="o",
            color=MAIN if summary is this else OTHER,
            capsize=3,
            linewidth=1,
        )
    for rank, summary, seconds in timed:
        place = _free((seconds / longest, summary.accuracy.mean), taken)
        taken.append(place)
        axes.annotate(
            str(rank),
            (place[0] * longest, 100 * place[1]),
            xytext=(5, 3),
            textcoords="offset points",
            color=_INK,
            weight="bold" if summary is this else "normal",
        )
    axes.set_xlim(0, 1.3 * longest)
    axes.set_ylim(0, 105)
    axes.set_xlabel("seconds for all questions (less is better)")
    axes.set_ylabel("accuracy, %")
    told = [
        f"{rank} {s.name} {s.accuracy.mean:.0%} in {seconds:.3g} s" for rank, s, seconds in timed
    ]
    plot = _plot(figure, "Accuracy against latency", "; ".join(told))
    return replace(plot, note="numbers are rows of the table") if len(ranked) > 1 else plot


# Size of a label, as a share of the plot's width and height.
_NUMBER_WIDTH, _NUMBER_HEIGHT = 0.06, 0.09


def _free(place: tuple[float, float], taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The place, or the next free place to its right; in shares of the axes."""
    x, y = place
    while any(abs(x - a) < _NUMBER_WIDTH and abs(y - b) < _NUMBER_HEIGHT for a, b in taken):
        x += _NUMBER_WIDTH
    return x, y


def accuracy(parts: Mapping[str, Interval], title: str) -> Plot:
    """Bars with their intervals."""
    figure, axes = _figure(0.7 + 0.36 * len(parts))
    names = [_plain(f"{name} ({each.n})") for name, each in parts.items()]
    shares = list(parts.values())
    axes.barh(
        names,
        [100 * each.mean for each in shares],
        xerr=_errors(shares),
        color=PALE,
        error_kw={"ecolor": _INK, "capsize": 3, "linewidth": 1},
        height=0.6,
    )
    axes.invert_yaxis()
    axes.set_xlim(0, 101)
    axes.set_xlabel("% right, with 95 % interval; (n) questions")
    return _plot(figure, title, "; ".join(f"{n} {each.mean:.0%}" for n, each in parts.items()))


def lengths(results: Sequence[Result]) -> Plot:
    """How long answers are, in characters."""
    figure, axes = _figure(2.0)
    right = [len(result.answer) for result in results if result.correct]
    wrong = [len(result.answer) for result in results if not result.correct]
    bins = np.linspace(0, max([*right, *wrong, 10]), 25).tolist()
    axes.hist([right, wrong], bins, stacked=True, color=[MAIN, OTHER], label=["right", "wrong"])
    axes.set_xlim(0, bins[-1])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("characters")
    axes.set_ylabel("answers")
    axes.legend(frameon=False, labelcolor=_INK)
    median = np.median(right + wrong)
    return _plot(figure, "Length of answers", f"median {median:.0f} characters")


def time(latency: Latency) -> Plot | None:
    """The parts of the call's time; None if the pipeline does not report them."""
    prefill, decode = latency.prefill_share, latency.decode_share
    if prefill is None or decode is None:
        return None
    parts = {"prefill": prefill, "decode": decode, "rest": max(0.0, 1 - prefill - decode)}
    figure, axes = _figure(1.15)
    left = 0.0
    for (name, share), color in zip(parts.items(), [MAIN, PALE, OTHER], strict=True):
        seconds = share * latency.total
        axes.barh([""], [seconds], left=left, color=color, label=f"{name} {share:.0%}", height=0.9)
        left += seconds
    axes.set_xlim(0, left)
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("seconds")
    figure.legend(
        loc="outside upper left",
        ncols=3,
        frameon=False,
        labelcolor=_INK,
        handlelength=1,
        columnspacing=0.8,
        handletextpad=0.4,
    )
    told = ", ".join(f"{name} {share:.0%}" for name, share in parts.items())
    return _plot(figure, "Where the time goes", told)


def _figure(height: float) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        return figure, figure.subplots()


def _plain(text: str) -> str:
    """Escape text, so that matplotlib does not parse it as a formula."""
    return text.replace("$", r"\$")


def _errors(shares: Sequence[Interval]) -> list[list[float]]:
    """Shape (2, n): the distances of the intervals' ends from the mean, in percent."""
    return [
        [100 * (each.mean - each.low) for each in shares],
        [100 * (each.high - each.mean) for each in shares],
    ]


def _plot(figure: Figure, title: str, told: str) -> Plot:
    """The figure as an SVG element without links and without repeated ids."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    tag, _, content = buffer.getvalue().partition("<svg ")[2].partition(">")
    box = re.findall(r'viewBox="[^"]*"', tag)[0]
    content = re.sub(r' id="[\w.]+_\d+"', "", content).replace(_INK, "currentColor")
    alt = escape(f"{title}: {told}")
    return Plot(title, Markup(f'<svg role="img" aria-label="{alt}" {box}>{content}'))
