"""Facts in tables, as people write them, to questions and answers.

A table is a text file of blocks, parted by empty lines:

    # a comment
    ? Who wrote {0}? | Who is the author of {0}? > {1}
    ? In which language did {1} write? > {2}
    Don Quixote<TAB>Miguel de Cervantes<TAB>Spanish
    Faust<TAB>Johann Wolfgang von Goethe

Every row gives one record for each `?` line above it; of the phrasings between bars the rows
take one after the other. A line that asks for a column that the row lacks gives none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from runtime.errors import SetupError

Record = dict[str, str]


@dataclass(frozen=True)
class _Template:
    phrasings: list[str]
    answer: str

    def columns(self, phrasing: str) -> int:
        """How many columns a row must have."""
        return 1 + max(int(n) for n in re.findall(r"{(\d)}", phrasing + self.answer))


def read(path: Path) -> list[Record]:
    """The questions and answers of a table.

    Raises:
        SetupError: a line is neither a comment, a template nor a row, or a row has no template.
    """
    return list(_records(path))


def _records(path: Path) -> Iterator[Record]:
    templates: list[_Template] = []
    rows = count()
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line:
            templates, rows = [], count()
        elif line.startswith("? "):
            question, arrow, answer = line[2:].partition(" > ")
            if not arrow or "{" not in question + answer:
                raise SetupError(f"{path}:{number}: not of the form `? question > answer`: {line}")
            templates.append(_Template(question.split(" | "), answer))
        elif not line.startswith("#"):
            if not templates:
                raise SetupError(f"{path}:{number}: a row without a `?` line above it: {line}")
            cells, turn = line.split("\t"), next(rows)
            for template in templates:
                phrasing = template.phrasings[turn % len(template.phrasings)]
                if template.columns(phrasing) <= len(cells):
                    yield record(phrasing.format(*cells), template.answer.format(*cells))


def record(question: str, answer: str) -> Record:
    """A record; both begin with a capital letter, wherever their words were in a template."""
    return {
        "question": question[:1].upper() + question[1:],
        "answer": answer[:1].upper() + answer[1:],
    }
