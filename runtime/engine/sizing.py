"""How a KV cache is laid out: how many slots of how many cells, by need and by memory."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.engine.context import round_up_cells


@dataclass(frozen=True)
class Layout:
    """Slots that decode, slots behind them for prompts that wait prefilled, cells of each."""

    slots: int
    staging: int
    cells: int

    @property
    def total_cells(self) -> int:
        return (self.slots + self.staging) * self.cells


def staging_slots(slots: int) -> int:
    """How many staging slots go with so many others: enough to make a prefill call worthwhile."""
    return min(8, max(1, slots // 2))


def fit_layout(cells: int, slots: int, affordable_cells: int | None = None) -> Layout:
    """The layout with most slots, up to `slots`, for generations of up to `cells` cells.

    Args:
        cells: what the longest needs; rounded up as llama.cpp does.
        slots: how many are wanted.
        affordable_cells: how many cells the whole cache may have; None is no limit. One slot
            and its staging slot are there in any case.
    """
    cells = round_up_cells(cells)
    if affordable_cells is not None:
        most = affordable_cells // cells
        slots = min(slots, most)
        while slots > 1 and slots + staging_slots(slots) > most:
            slots -= 1
    slots = max(1, slots)
    return Layout(slots, staging_slots(slots), cells)
