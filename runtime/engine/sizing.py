"""Capacity: cells of a slot, slots of a KV cache, tokens of a call. All such sums are done here."""

from __future__ import annotations

from dataclasses import dataclass

# A padded prefill writes at most this many cells beyond the prompt.
PADDING_CELLS = 16
# llama.cpp rounds what a sequence can hold up to a multiple of this many cells.
_CELL_STEP = 256


@dataclass(frozen=True)
class Layout:
    """How a KV cache is divided."""

    slots: int  # sequences that are decoded at once
    staging: int  # further sequences, numbered after them, for prompts that wait prefilled
    cells: int  # tokens that each of them can hold

    @property
    def sequences(self) -> int:
        """All slots, staging ones included."""
        return self.slots + self.staging

    @property
    def total_cells(self) -> int:
        """Cells of all slots together."""
        return self.sequences * self.cells


def cells_needed(prompt_tokens: int, new_tokens: int) -> int:
    """Cells of a slot that a prompt and its answer may come to need."""
    return prompt_tokens + new_tokens + PADDING_CELLS


def longest_prompt(cells: int) -> int:
    """Tokens of the longest prompt that leaves room for one new token in a slot of `cells`."""
    return cells - PADDING_CELLS - 1


def longest_slot(affordable_cells: int) -> int:
    """Cells of a slot where the cache has that one and its staging slot."""
    return affordable_cells // 2 // _CELL_STEP * _CELL_STEP


def round_up_cells(cells: int) -> int:
    """Cells that llama.cpp will give a sequence when asked for `cells`."""
    return -(-cells // _CELL_STEP) * _CELL_STEP


def call_tokens(wanted: int, sequences: int) -> int:
    """Most tokens of a llama.cpp call, where `wanted` were asked for.

    llama.cpp reserves a row of logits for each sequence of a context, staging ones included, and
    aborts the process where a call has room for fewer.
    """
    return max(wanted, sequences)


def staging_slots(slots: int) -> int:
    """Number of staging slots for `slots` decoding slots: enough for a worthwhile prefill call."""
    return min(8, max(1, slots // 2))


def fit_layout(cells: int, slots: int, affordable_cells: int | None = None) -> Layout:
    """The layout with most slots, up to `slots`, for generations of up to `cells` cells.

    The whole cache has at most `affordable_cells` (None is no limit), but room for one slot and
    its staging slot in any case.
    """
    cells = round_up_cells(cells)
    if affordable_cells is not None:
        most = affordable_cells // cells
        slots = min(slots, most)
        while slots > 1 and slots + staging_slots(slots) > most:
            slots -= 1
    slots = max(1, slots)
    return Layout(slots, staging_slots(slots), cells)
