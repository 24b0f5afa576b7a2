"""`python -m lab.patience`: what it costs that no request is overtaken often.

The engine's own scheduler, with steps that take the time measured on two models, and requests whose
lengths are drawn: clients that ask again as soon as they are answered, and a list. Prints, for each
patience, throughput and how long requests wait for their first token.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runtime.engine.generation import Generation, Request
from runtime.engine.scheduler import Scheduler
from runtime.engine.sizing import Layout, staging_slots
from runtime.engine.step import Prefill
from runtime.engine.waiting import WaitingRoom

# Seconds of a prompt token, of a call, and of a row of a decode step (lab/NOTES.md).
COSTS = {"demo": (0.0017, 0.007, 0.0041), "1.7B": (0.0053, 0.09, 0.0059)}
SLOTS, CLIENTS, NEW_TOKENS, SECONDS = 16, 64, 32, 600.0
PATIENCE = (0, 0.5, 1, 2, 4, 8)


@dataclass
class Outcome:
    """Answers per second, and the seconds that each of the requests waited for its first token."""

    rate: float
    waits: list[float]
    short: list[float]  # of the shortest quarter of them

    def row(self) -> str:
        ordered = sorted(self.waits)
        p95 = ordered[int(0.95 * len(ordered))]
        values = (statistics.median(ordered), p95, ordered[-1], max(self.short))
        return f"{self.rate:.3f} | " + " | ".join(f"{value:.1f}" for value in values)


def simulate(
    patience: int,
    costs: tuple[float, float, float],
    adapters: int,
    lengths: Callable[[], int],
    total: int | None = None,
) -> Outcome:
    """Run clients for a time, or a list of `total` requests; adapters above 0 take turns."""
    token, call, row = costs
    scheduler = Scheduler(
        Layout(SLOTS, staging_slots(SLOTS), 10_000),
        512,
        WaitingRoom(patience, shared=not adapters),
    )
    chance, now, answered = random.Random(0), 0.0, 0
    asked: dict[int, float] = {}
    left: dict[int, int] = {}
    waits: list[tuple[int, float]] = []

    def add() -> None:
        number = len(asked)
        adapter = str(chance.randrange(adapters)) if adapters else None
        asked[number], left[number] = now, NEW_TOKENS
        scheduler.add(Generation(number, Request([1] * lengths(), adapter=adapter)))

    for _ in range(total or CLIENTS):
        add()
    while (step := scheduler.schedule()) is not None and (total or now < SECONDS):
        if isinstance(step, Prefill):
            now += call + token * step.length * len(step.generations)
            scheduler.update(step)
        else:
            now += call + row * (len(step.generations) + len(step.idle_slots))
        for generation in list(step.sampled):
            number = generation.index
            if left[number] == NEW_TOKENS:
                waits.append((generation.n_prompt, now - asked[number]))
            left[number] -= 1
            if not left[number]:
                scheduler.finish(generation)
                answered += 1
                if not total:
                    add()
    waits.sort()
    times = [wait for _, wait in waits]
    return Outcome(answered / now, times, times[: len(times) // 4])


def _lengths(seed: int) -> Iterator[int]:
    chance = random.Random(seed)
    while True:
        yield min(900, max(8, round(chance.lognormvariate(4.2, 0.9))))


def main() -> None:
    print("| model | adapters | requests | patience / slots | answers/s | median | p95 | longest")
    print("| --- | --- | --- | --- | --- | --- | --- | ---")
    for name, costs in COSTS.items():
        for adapters in (0, 4):
            for total in (None, 1000):
                for share in PATIENCE:
                    drawn = _lengths(1)
                    found = simulate(
                        int(share * SLOTS), costs, adapters, lambda d=drawn: next(d), total
                    )
                    kind = f"{total} in a list" if total else f"{CLIENTS} clients"
                    print(f"| {name} | {adapters or 'mixed'} | {kind} | {share} | {found.row()} |")


if __name__ == "__main__":
    main()
