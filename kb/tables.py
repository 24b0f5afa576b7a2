"""Rows of tables as texts, in which each cell follows the heading of its column or row."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

_WIDEST = 1000  # columns, and rows that a cell may span, as in browsers


@dataclass(eq=False)
class _Cell:
    text: str
    heading: bool
    columns: int
    rows: int  # that it still spans


class Row:
    """A row while it is read."""

    def __init__(self) -> None:
        self.cells: list[_Cell] = []

    def open(self, heading: bool, columns: int = 1, rows: int = 1) -> None:
        """Begin a cell that spans some columns and rows; 0 rows are all that follow."""
        width, height = max(1, min(columns, _WIDEST)), min(rows, _WIDEST) or _WIDEST
        self.cells.append(_Cell("", heading, width, max(1, height)))

    def add(self, text: str) -> None:
        """Add text to the cell that was begun last."""
        if not self.cells:
            self.open(heading=False)
        self.cells[-1].text = f"{self.cells[-1].text} {text}".strip()


class Table:
    """A table while it is read; rows of headings name the cells below them."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._naming = False  # whether the last row was one of headings
        self._above: dict[int, _Cell] = {}  # by column, cells that span further rows

    def text(self, row: Row) -> str:
        """A row as text, "" for a row of headings."""
        line = self._line(row)
        cells = list({id(cell): cell for cell in line}.values())
        filled = [cell for cell in cells if cell.text]
        heads = [cell for cell in cells if cell.heading]
        if len(cells) > 1 and heads in (cells, filled) and (len(filled) > 1 or heads == cells):
            above = self._names if self._naming else []
            both = zip_longest(above, (cell.text for cell in line), fillvalue="")
            self._names = [b if a == b else f"{a} {b}".strip() for a, b in both]
            self._naming = True
            return ""
        self._naming = False
        if len(line) == len(self._names) and len(cells) > 1:
            names_of: dict[int, list[str]] = {}
            for name, cell in zip(self._names, line, strict=True):
                known = names_of.setdefault(id(cell), [])
                if name and name not in known:
                    known.append(name)
            named = ((", ".join(names_of[id(cell)]), cell.text) for cell in filled)
            return "; ".join(f"{name}: {text}" if name else text for name, text in named)
        texts = [cell.text for cell in filled]
        if len(filled) > 1 and filled[0].heading:
            return f"{texts[0]}: {'; '.join(texts[1:])}"
        return "; ".join(texts)

    def _line(self, row: Row) -> list[_Cell]:
        """The cell of each column, with those that rows above left for this one."""
        line: list[_Cell] = []

        def place(cell: _Cell) -> None:
            cell.rows -= 1
            if cell.rows:
                self._above[len(line)] = cell
            line.extend([cell] * max(1, min(cell.columns, _WIDEST - len(line))))

        def placed_above() -> None:
            while (cell := self._above.pop(len(line), None)) is not None:
                place(cell)

        for cell in row.cells:
            placed_above()
            place(cell)
        placed_above()
        return line
