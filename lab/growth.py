"""`python -m lab.growth`: how cost grows with questions, slots, routes and prompts.

One quantity grows while the others stay fixed; all is greedy, with answers of a fixed length.
Questions go through `loadPipeline()`; slots, routes (an adapter each) and prompts, which must have
an exact length, go to the engine as random tokens, no two prompts alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.shapes import make_adapters
from runtime.common import figures
from runtime.common.command import parser_for, run
from runtime.common.errors import SetupError

if TYPE_CHECKING:
    from runtime.engine import Engine, Request

QUESTIONS = (10, 100, 1000, 10_000)
SLOTS = (1, 2, 4, 8, 16, 32, 64)
ROUTES = (1, 2, 3, 4, 5, 6, 7, 8)
PROMPTS = (32, 64, 128, 256, 512, 1024)
# What stays as it is while something else grows.
_SLOTS, _PROMPT = 16, 64


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        value: of what grows.
        questions: how many were answered.
        seconds: for all of them; the median of the rounds.
        new_tokens: of all answers together.
        resident: bytes of memory of the process afterwards.
    """

    value: int
    questions: int
    seconds: float
    new_tokens: int
    resident: int

    @property
    def per_question(self) -> float:
        """Milliseconds."""
        return 1000 * self.seconds / self.questions


Measure = Callable[[Path, int, Path], Iterator[Point]]


def by_questions(model: Path, rounds: int, _: Path) -> Iterator[Point]:
    """Short questions of one subject, no two alike, with 4 new tokens each."""
    from runtime import Settings, loadPipeline

    settings = Settings.load(
        model_name=str(model),
        batch_size=_SLOTS,
        max_input_tokens=128,
        max_new_tokens=4,
        min_new_tokens=4,
        temperature=0.0,
        device_map="cpu",
    )
    with loadPipeline(settings) as pipeline:
        for count in QUESTIONS:
            asked = [
                {"questionID": str(n), "subject": "general", "question": f"Who was number {n}?"}
                for n in range(count)
            ]
            # The few questions take too short a time for one look.
            repeats = rounds if count > QUESTIONS[1] else max(3, rounds)
            seconds = _median(lambda asked=asked: pipeline(asked), repeats)  # type: ignore[misc]
            yield _point(count, count, seconds, 4 * count)


def by_slots(model: Path, rounds: int, _: Path) -> Iterator[Point]:
    """64 prompts of 64 tokens with 16 new tokens each."""
    for slots in SLOTS:
        with engine(model, slots, _PROMPT + 16) as ready:
            asked = requests(ready, 64, _PROMPT, 16)
            yield _point(slots, 64, _timed(ready, asked, rounds), 64 * 16)


def by_routes(model: Path, rounds: int, folder: Path) -> Iterator[Point]:
    """64 prompts of 64 tokens with 16 new tokens each, an adapter of rank 16 for each route."""
    names = [f"route{n}" for n in range(1, max(ROUTES) + 1)]
    adapters = make_adapters(model, folder / "adapters", names)
    for routes in ROUTES:
        with engine(model, _SLOTS, _PROMPT + 16, adapters[:routes]) as ready:
            asked = requests(ready, 64, _PROMPT, 16, [str(path) for path in adapters[:routes]])
            yield _point(routes, 64, _timed(ready, asked, rounds), 64 * 16)


def by_prompts(model: Path, rounds: int, _: Path) -> Iterator[Point]:
    """32 prompts with 16 new tokens each."""
    for length in PROMPTS:
        with engine(model, _SLOTS, length + 16) as ready:
            asked = requests(ready, 32, length, 16)
            yield _point(length, 32, _timed(ready, asked, rounds), 32 * 16)


PARTS: dict[str, tuple[Measure, str]] = {
    "questions": (by_questions, "questions in a call"),
    "slots": (by_slots, "slots"),
    "routes": (by_routes, "routes, an adapter each"),
    "prompts": (by_prompts, "tokens of a prompt"),
}


def engine(model: Path, slots: int, cells: int, adapters: Sequence[Path] = ()) -> Engine:
    """An engine with as many cells as the longest prompt and answer need, and these adapters."""
    from runtime.engine import Engine, EngineOptions, physical_cores
    from runtime.engine.sizing import PADDING_CELLS

    options = EngineOptions(slots, cells + PADDING_CELLS, physical_cores())
    return Engine.load(model, options, {str(path): path for path in adapters})


def requests(
    ready: Engine, count: int, length: int, new_tokens: int, adapters: Sequence[str] = ()
) -> list[Request]:
    """Prompts of random tokens, with the adapters by turns."""
    import numpy as np

    from runtime.engine import Request, SamplingParams

    random = np.random.default_rng(0)
    params = SamplingParams(temperature=0.0, min_new_tokens=new_tokens, max_new_tokens=new_tokens)
    return [
        Request(
            random.integers(1000, ready.model.n_vocab // 2, length).tolist(),
            params,
            adapter=adapters[n % len(adapters)] if adapters else None,
        )
        for n in range(count)
    ]


def _timed(ready: Engine, asked: list[Request], rounds: int) -> float:
    def answer() -> None:
        for completion in ready.generate(asked):
            if completion.finish_reason == "error":
                raise SetupError(f"a prompt was not answered: {completion.error}")

    return _median(answer, rounds)


def _median(act: Callable[[], object], rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _point(value: int, questions: int, seconds: float, new_tokens: int) -> Point:
    import psutil

    return Point(value, questions, seconds, new_tokens, psutil.Process().memory_info().rss)


def table(points: Sequence[Point], what: str) -> str:
    """The points as a Markdown table; "against the first" is of the time per question."""
    rows = [
        f"| {what} | questions | seconds | ms a question | against the first | new tokens/s"
        " | resident, MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for point in points:
        rows.append(
            f"| {point.value:,} | {point.questions:,} | {point.seconds:.2f}"
            f" | {point.per_question:.1f} | {point.per_question / points[0].per_question:.2f}"
            f" | {point.new_tokens / point.seconds:.0f} | {point.resident / 2**20:.0f} |"
        )
    return "\n".join(rows)


def picture(points: Sequence[Point], what: str, path: Path) -> None:
    """Time per question over what grows, both on logarithmic axes."""
    values = [point.value for point in points]
    with figures.axes(path, 5, 3) as axes:
        axes.plot(values, [point.per_question for point in points], "o-", color=figures.MAIN)
        for point in points:
            where = (point.value, point.per_question)
            text = f"{point.per_question:,.0f}"
            axes.annotate(text, where, (0, 7), textcoords="offset points", ha="center")
        axes.margins(0.08, 0.2)
        axes.set_xscale("log", base=10 if values[-1] > 2000 else 2)
        axes.set_yscale("log")
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.minorticks_off()
        axes.set_yticks([])  # the points say their values
        axes.set_xlabel(what)
        axes.set_ylabel("ms a question")


def _grow(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from runtime import Settings
    from runtime.files.routes import plan_routes

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    settings = Settings.load(model_name=arguments.model)
    model = plan_routes(settings)[settings.subjects.fallback].model
    kept = out / "growth.json"
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if found.get("model", model.name) != model.name:
        raise SetupError(f"{kept} is of {found['model']}: give another --out")
    found["model"] = model.name
    for name in arguments.only or PARTS:
        measure, what = PARTS[name]
        points = list(tqdm(measure(model, arguments.rounds, out), desc=name, disable=None))
        found[name] = [asdict(point) for point in points]
        kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
        picture(points, what, out / f"growth-{name}.png")
        print(f"{measure.__doc__}\n\n{table(points, what)}\n", flush=True)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("--model", default="demo", help="MODEL_NAME (default: demo)")
    parser.add_argument("--rounds", type=int, default=1, help="of each point (default: 1)")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="these parts alone")
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and pictures")
    return run(_grow, parser.parse_args(argv), stopped="stopped; finished parts are kept")


if __name__ == "__main__":
    sys.exit(main())
