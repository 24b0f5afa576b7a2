"""The shape of llama.cpp's calls, on which the rounding of its results depends.

The same row gets other last bits from another kernel, and which kernel computes it depends on how
many rows a call has. Over the length of an answer that can turn a near tie. On a CPU, in
llama.cpp's source as of 0.3.36, these choices depend on the shape of a call:

- A single row is multiplied by a kernel of its own, whatever the type of the weights.
- Repacked weights are multiplied by four rows at once, and the rows left over one by one.
- K-quants as they are in the file have another kernel from eight rows on (`ggml-cpu/tiled`).
- Flash attention adds in 16 bits, but in 32 where a sequence has 64 tokens or more in a call. A
  single token of a single sequence is computed in parts, one for each thread.
- After the last attention only rows with logits go on, so all this applies to their number, too.

`INVARIANT_SHAPE` keeps to one side of each choice: rows, and rows with logits, are multiples of
four and at least eight, and prompts go in pieces of at most 56 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.engine.llama import EngineError

# Where adapters are stacked, calls have at least two rows and two rows of logits: the stack is a
# float matrix, for which only a single row has a kernel of its own. So adapters cost no answer
# its independence, also without `INVARIANT_SHAPE`.
LEAST_MIXED = 2


@dataclass(frozen=True)
class Shape:
    """What calls must look like."""

    least_rows: int = 1  # of a call, and of its logits
    rows_at_once: int = 1  # their number is a multiple of it
    piece_tokens: int = 0  # most tokens of a sequence in a call; 0 is no limit

    def piece(self, wanted: int, most: int) -> int:
        """Tokens of a prompt in a call, with padding: for `wanted` of it, and at most `most`."""
        if not self.piece_tokens:
            return min(wanted, most)
        step = self.least_rows
        return min(self.piece_tokens, -(-wanted // step) * step, most // step * step)

    def slots(self, n: int) -> int:
        """How many of `n` slots to have, so that few rows are computed for nothing."""
        return n // self.rows_at_once * self.rows_at_once or min(n, 2)

    def row_tokens(self, n_slots: int) -> int:
        """Tokens of each of `n_slots` in a decode step: one, and padding after it."""
        length = 1
        while n_slots * length < self.least_rows or n_slots * length % self.rows_at_once:
            length += 1
        return length

    def outputs(self, n: int, least: int) -> int:
        """Rows with logits where `n` are wanted, and at least `least`."""
        rows = -(-n // self.rows_at_once) * self.rows_at_once
        return max(rows, self.least_rows, least)

    def tile(self, tokens: int) -> int:
        """The tokens of an attention tile if these calls can have that many of a prompt, else 0."""
        return 0 if self.piece_tokens else tokens

    @property
    def spare_cells(self) -> int:
        """Cells of a slot that an answer must leave free for `row_tokens`."""
        return self.least_rows - 1


ANY_SHAPE = Shape()
INVARIANT_SHAPE = Shape(least_rows=8, rows_at_once=4, piece_tokens=56)


def shape_for(batch_invariant: bool, gpu_layers: int) -> Shape:
    """The shape of calls under which answers are equal to the bit, or any.

    Raises:
        EngineError: layers are on a GPU, where it is not known.
    """
    if batch_invariant and gpu_layers:
        raise EngineError(
            "answers that are equal to the bit in any batch (BATCH_INVARIANT=1) need all layers on"
            " the CPU: set DEVICE_MAP=cpu"
        )
    return INVARIANT_SHAPE if batch_invariant else ANY_SHAPE
