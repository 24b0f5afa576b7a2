"""Reads PDF files as entries, one for each page.

They are read in a process of their own: a damaged file can make pypdf loop, take all memory or
fail in any way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kb.entries import Bad, Entry
from runtime.common.child import Child, ChildEndedError, ChildError, Limits
from runtime.common.extras import require

_READER = "kb.pdf:read"
_RESTARTS = 5  # after this many pages that end the process, the others are not tried
_SECONDS = 60.0  # for a page
_MEMORY = 1 << 30
# Running headings are among this many lines at the beginning and end of a page.
_EDGE = 2
_SHORT = 6  # words, such as "Page 3 of 9"
_BOTH = 2  # left and right pages, beside 0 and 1
_FEWEST_PAGES = 3
_DOTS = re.compile(r"(?: ?\.){4,} ?")
_NUMBER = re.compile(r"[0-9]{1,6}")
_HAN_END, _HAN_START = re.compile(r"[\u3000-\u9fff\uff00-\uffef]$"), re.compile(r"[\u3000-\u9fff]")


def pdf_entries(path: Path, progress: Callable[[int], object]) -> Iterator[Entry | Bad]:
    """The pages of a PDF file, without the lines that are at the edge of most of them.

    Args:
        path: a regular file.
        progress: called with the number of bytes read since the last call.

    Raises:
        MissingLibraryError: pypdf is not installed.
    """
    require("reading a PDF file", "knowledge", "pypdf")
    size = path.stat().st_size
    pages: list[list[str] | Bad] = []
    with Child(_READER, Limits(memory=_MEMORY), restarts=_RESTARTS) as child:
        about = _ask(child, [str(path.resolve()), None])
        if "problem" in about:
            yield Bad("the file", about["problem"])
            return
        for number in range(about["pages"]):
            said = _ask(child, [str(path.resolve()), number])
            problem = said.get("problem")
            pages.append(Bad(f"page {number + 1}", problem) if problem else said["lines"])
            progress(size // about["pages"])
    if not any(pages):
        yield Bad("the file", "has no text; scanned pages need a reader of characters first (OCR)")
        return
    running = _running(pages)
    for number, page in enumerate(pages):
        if isinstance(page, Bad):
            yield page
        elif page:
            first, after = 0, len(page)
            while first < min(_EDGE, after) and running(page[first], number):
                first += 1
            while after > max(first, len(page) - _EDGE) and running(page[after - 1], number):
                after -= 1
            text = _joined(page[first:after] or page)
            yield Entry(about["title"], "", text, f"page {number + 1}")


def _running(pages: list[list[str] | Bad]) -> Callable[[str, int], bool]:
    """Whether a line at the edge of a page is at that of most pages, or most left or right ones."""
    edges: Counter[tuple[str, int]] = Counter()
    count: Counter[int] = Counter()
    for number, page in enumerate(pages):
        if isinstance(page, list):
            lines = page[:_EDGE] + page[max(_EDGE, len(page) - _EDGE) :]
            keys = {key for line in lines for key in _keys(line, number)}
            edges.update((key, side) for key in keys for side in (_BOTH, number % 2))
            count.update((_BOTH, number % 2))

    def running(line: str, number: int) -> bool:
        return any(
            edges[key, side] >= max(_FEWEST_PAGES, count[side] // 2 + 1)
            for key in _keys(line, number)
            for side in (_BOTH, number % 2)
        )

    return running


def _ask(child: Child, job: list[Any]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = child.ask(job, _SECONDS)
    except ChildError as error:
        said = error.said if isinstance(error, ChildEndedError) else ""
        return {"problem": f"cannot be read ({said or error})"}
    return answer


def _keys(line: str, page: int) -> Iterator[str]:
    """The line itself, and with a number as counted from the page's: equal on other pages.

    In a longer line only the first and the last word can be a page number.
    """
    yield line
    short = len(line.split()) <= _SHORT
    for number in _NUMBER.finditer(line):
        if not short and number.start() and number.end() < len(line):
            continue
        yield f"{line[: number.start()]}page{int(number[0]) - page}{line[number.end() :]}"


def _joined(lines: list[str]) -> str:
    """Lines as one text, without hyphenation and the dots of a table of contents."""
    text = ""
    for line in lines:
        if text.endswith("-") and text[-2:-1].isalpha() and line[0].islower():
            text = text[:-1] + line
        elif not text or (_HAN_END.search(text) and _HAN_START.match(line)):
            text += line
        else:
            text += f" {line}"
    return _DOTS.sub(" ", text)


# The rest runs in the process that reads.

_open: dict[str, Any] = {}


def read(job: list[Any]) -> dict[str, Any]:
    """The title and number of pages of a PDF file, or the lines of one of its pages.

    Args:
        job: the path, and the page from 0 or None.

    Returns:
        title and pages, or lines, or the problem.
    """
    import pypdf

    path, number = job
    try:
        if path not in _open:
            _open[path] = pypdf.PdfReader(path)
            if _open[path].is_encrypted and not _open[path].decrypt(""):
                return {"problem": "is protected with a password"}
        reader = _open[path]
        if number is None:
            title = (reader.metadata and reader.metadata.title) or ""
            return {"title": " ".join(str(title).split()), "pages": len(reader.pages)}
        lines = (" ".join(line.split()) for line in reader.pages[number].extract_text().split("\n"))
        return {"lines": [line for line in lines if line]}
    except Exception as error:  # of any kind, where a file is damaged
        return {"problem": f"cannot be read ({type(error).__name__}: {error})"[:300]}
