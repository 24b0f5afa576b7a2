"""Logits as a call reports them: of the whole vocabulary, or of each row's likeliest blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Logits of some rows of a call; columns ascend by token.

    Attributes:
        logits: float32 [rows, columns]; -inf where a column stands for no token.
        blocks: int [rows, k], for each row the numbers of its blocks of `width` tokens that its
            columns are of, ascending; None if column and token are the same.
        width: tokens of a block.
    """

    logits: np.ndarray
    blocks: np.ndarray | None = None
    width: int = 1

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> Rows:
        blocks = None if self.blocks is None else self.blocks[rows]
        return Rows(self.logits[rows], blocks, self.width)

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
