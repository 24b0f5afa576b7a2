"""Logits as a call reports them: of the whole vocabulary, or of each row's likeliest blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Columns that tell a row of numbers from one of NaN.
_LOOKED_AT = 16


@dataclass(frozen=True)
class Rows:
    """Logits of some rows of a call; columns ascend by token."""

    logits: np.ndarray  # float32 [rows, columns]; -inf where a column stands for no token
    # int [rows, k], for each row the numbers of the blocks of `width` tokens that its columns
    # come from, ascending; None if column and token are the same.
    blocks: np.ndarray | None = None
    width: int = 1

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> Rows:
        blocks = None if self.blocks is None else self.blocks[rows]
        return Rows(self.logits[rows], blocks, self.width)

    def damaged(self) -> list[int]:
        """Rows that have NaN in them or are all alike, as far as a few columns show.

        A NaN in a model's weights makes all logits NaN, so a look at a few columns finds it; a
        whole row is looked through only where those are suspicious.
        """
        few = self.logits[:, :: max(1, self.logits.shape[1] // _LOOKED_AT)]
        suspicious = np.isnan(few).any(axis=1) | (few.min(axis=1) == few.max(axis=1))
        return [
            row
            for row in np.flatnonzero(suspicious).tolist()
            if np.isnan(self.logits[row]).any() or self.logits[row].min() == self.logits[row].max()
        ]

    def tokens(self, columns: np.ndarray) -> np.ndarray:
        """The tokens, int64 [rows], of one column of each row."""
        if self.blocks is None:
            return columns.astype(np.int64)
        block, place = np.divmod(columns, self.width)
        return self.blocks[np.arange(len(columns)), block].astype(np.int64) * self.width + place

    def forbid(self, rows: Sequence[int], tokens: np.ndarray) -> None:
        """Set the logits of tokens, int [n], to -inf in some rows, in place."""
        chosen: Any = np.array(rows, np.int64)
        if self.blocks is None:
            self.logits[chosen[:, None], tokens] = -np.inf
            return
        blocks = self.blocks[chosen]
        for token in tokens.tolist():
            row, column = np.nonzero(blocks == token // self.width)
            self.logits[chosen[row], column * self.width + token % self.width] = -np.inf
