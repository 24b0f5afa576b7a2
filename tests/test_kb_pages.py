"""What `kb.preprocess` makes of files that others made: HTML, PDF and Parquet."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kb import pdf
from kb.entries import Bad, Entry
from kb.making import make
from kb.pages import repeated_blocks
from kb.passages import clean
from kb.preprocess import main
from kb.reading import KINDS, entries, files_of
from runtime.common.errors import UserError
from runtime.common.extras import MissingLibraryError
from runtime.retrieval.files import base_path

PAGE = """<!DOCTYPE html>
<html><head><title>Peru &ndash; All lands</title>
<style>p { color: red }</style><script>var lima = "<p>no text</p>";</script></head>
<body>
<header><h1>All lands</h1><a href="/">Home</a></header>
<nav><ul><li>Asia</li><li>Europe</li></ul></nav>
<main>
<h1>Peru</h1>
<p>Peru is a land in South America.<sup class="reference">[1]</sup> It is <b>H</b>igh,
and 2 < 3 &amp; 5 &gt; 4.</p>
<script>document.write("hidden")</script>
<h2>Government <span class="mw-editsection">edit</span></h2>
<table><tr><th>Name<th>Office</tr><tr><td>Anna Bell<td>President</tr>
<tr><td>Boris<td>Judge of the <i>high</i> court</tr></table>
<h3>Towns</h3>
<ul><li>Lima</li><li>Cusco<br>in the hills</li></ul>
<table class="infobox"><tr><th>Capital</th><td>Lima</td></tr></table>
<dl><dt>Language</dt><dd>Spanish</dd></dl>
</main>
<footer>All rights reserved.</footer>
</body></html>
"""


def _file(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _told(path: Path, **options: Any) -> list[tuple[str, str, str]]:
    found = [each for each in entries(path, **options) if isinstance(each, Entry)]
    return [(each.title, each.section, each.text) for each in found]


@pytest.fixture(autouse=True)
def _libraries() -> None:
    for library in ("selectolax", "pypdf", "pyarrow"):
        pytest.importorskip(library)


def test_a_page_is_what_its_reader_reads(tmp_path: Path) -> None:
    towns = "Government / Towns"
    assert _told(_file(tmp_path, "a.html", PAGE)) == [
        ("Peru", "", "Peru is a land in South America. It is High, and 2 < 3 & 5 > 4."),
        ("Peru", "Government", "Name: Anna Bell; Office: President"),
        ("Peru", "Government", "Name: Boris; Office: Judge of the high court"),
        ("Peru", towns, "Lima"),
        ("Peru", towns, "Cusco in the hills"),
        ("Peru", towns, "Capital: Lima"),
        ("Peru", towns, "Language: Spanish"),
    ]


def test_a_table_that_arranges_a_page_is_no_table_of_facts(tmp_path: Path) -> None:
    page = """<title>Lutz</title><table><tr><td><h2>Gate</h2><p>It is open.<p>It is old.</td>
    <td><table><tr><td>Bells<td>7</table></td></tr></table>"""
    assert _told(_file(tmp_path, "a.htm", page)) == [
        ("Lutz", "Gate", "It is open."),
        ("Lutz", "Gate", "It is old."),
        ("Lutz", "Gate", "Bells; 7"),
    ]


def test_what_stands_on_every_page_is_left_out(tmp_path: Path) -> None:
    """But not a fact that many pages share in their tables, nor what few pages say."""
    for n in range(10):
        rare = "<p>It has a harbour.</p>" if n < 5 else ""
        page = f"""<title>Town {n} | The site</title><h1>The towns</h1><div>We use cookies.</div>
        <h2>Town {n}<a href="#x">¶</a></h2><p>It has {n} bells.</p>{rare}
        <table><tr><th>Land<td>Peru</table><p>Write to us.</p>"""
        _file(tmp_path, f"raw/{n}.html", page)
    files = files_of([tmp_path / "raw"])
    assert repeated_blocks(files) == {
        ("title", "The site"),
        ("h1", "The towns"),
        ("p", "We use cookies."),
        ("p", "Write to us."),
    }
    make("geography", [tmp_path / "raw"], tmp_path)
    passages = json.loads(base_path(tmp_path, "geography").read_text())["passages"]
    assert [passage["title"] for passage in passages] == [f"Town {n}" for n in range(10)]
    assert passages[3]["text"].split("\n") == [
        "It has 3 bells.",
        "It has a harbour.",
        "Land: Peru",
    ]
    assert repeated_blocks(files[:2]) == frozenset()


@pytest.mark.parametrize(
    ("encoding", "named"),
    [("gb2312", "gb2312"), ("cp1252", "iso-8859-1"), ("utf-8-sig", ""), ("utf-16", "")],
)
def test_a_page_is_read_in_the_encoding_that_it_names(
    tmp_path: Path, encoding: str, named: str
) -> None:
    text = "北京是首都。" if encoding == "gb2312" else "The gate of Köln costs “5 marks”."
    meta = f'<meta http-equiv="Content-Type" content="text/html; charset={named}">' * bool(named)
    page = f"<html><head>{meta}</head><body><p>{text}</p>".encode(encoding)
    assert _told(_file(tmp_path, "a.html", page)) == [("", "", text)]


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("<p>Köln</p>".encode("latin-1"), "is not in utf-8"),
        (b'<meta charset="klingon"><p>x', "unknown encoding, klingon"),
        (b'<meta charset="hex"><p>x', "unknown encoding, hex"),
        (b'<meta charset="punycode"><p>' + b"x" * 1_000_000, "unknown encoding, punycode"),
        (b"<title>only</title><p> </p><script>x</script>", "has no text"),
        (b"", "has no text"),
    ],
)
def test_a_page_that_cannot_be_read_is_named_and_the_others_are_read(
    tmp_path: Path, page: bytes, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = _file(tmp_path, "raw/a.html", page)
    (found,) = entries(bad)
    assert isinstance(found, Bad)
    assert problem in found.problem
    _file(tmp_path, "raw/b.html", PAGE)
    summary = make("geography", [tmp_path / "raw"], tmp_path)
    assert summary.dropped["bad entries"] == 1
    assert f"{bad}, the page" in caplog.text


def test_a_page_nested_as_deeply_as_can_be_is_read(tmp_path: Path) -> None:
    page = "<div>" * 20_000 + "Lima is deep." + "<table><tr><td>" * 2_000
    assert _told(_file(tmp_path, "a.html", page)) == [("", "", "Lima is deep.")]


def test_what_is_hidden_may_hold_what_is_hidden(tmp_path: Path) -> None:
    inside = "<svg hidden><style>x</style></svg><button>y<script>z</script></button>"
    around = f"<nav hidden>{inside}<footer>{inside}</footer></nav>"
    page = f"<body>{around}<p>The gate is open.{around}" * 200
    assert {text for _, _, text in _told(_file(tmp_path, "a.html", page))} == {"The gate is open."}


def test_html_in_a_record_is_read_as_a_page(tmp_path: Path) -> None:
    record = {"title": "Peru", "section": "Facts", "text": PAGE}
    plain = {"text": "If a<b and c>d then 2 < 3; AT&amp;T has <i>it</i><br>here."}
    lines = "\n".join(map(json.dumps, (record, plain)))
    found = _told(_file(tmp_path, "a.jsonl", lines))
    assert found[1] == ("Peru", "Facts / Government", "Name: Anna Bell; Office: President")
    assert clean(found[-1][2]) == "If a<b and c>d then 2 < 3; AT&T has it here."


def test_scripts_and_comments_in_a_text_go_and_endless_ones_are_text() -> None:
    text = "One <script>var a = 1 < 2;</script>two <!-- no --> three <STYLE>p {}</style >four"
    assert clean(text) == "One two three four"
    assert clean("a <!-- b") == "a <!-- b"
    started = time.monotonic()
    clean("<script>" * 500_000 + "<!--" * 500_000 + "<a " * 500_000 + "&amp" * 500_000)
    assert time.monotonic() - started < 20


def _pdf(path: Path, pages: list[list[str]], title: str = "") -> Path:
    """A PDF file, written by hand: a page for each list of lines."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    kids = []
    for lines in pages:
        shown = " T* ".join(f"({line}) Tj" for line in lines)
        stream = f"BT /F1 12 Tf 14 TL 50 700 Td {shown} ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        content = len(objects)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {content} 0 R"
            f" /Resources << /Font << /F1 {font} >> >> >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    objects.append(f"<< /Title ({title}) >>")
    raw, places = "%PDF-1.4\n", []
    for number, text in enumerate(objects, start=1):
        places.append(len(raw))
        raw += f"{number} 0 obj\n{text}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    count = len(objects) + 1
    raw += f"xref\n0 {count}\n0000000000 65535 f \n{table}trailer\n"
    raw += f"<< /Size {count} /Root 1 0 R /Info {count - 1} 0 R >>\n"
    raw += f"startxref\n{raw.index('xref')}\n%%EOF\n"
    path.write_bytes(raw.encode("latin-1"))
    return path


def test_a_pdf_is_its_pages_without_what_stands_on_each(tmp_path: Path) -> None:
    colours = ("red", "blue", "old", "new")
    pages = [
        [
            "History of Lutz",
            f"Gate {n * n} is open; har-",
            "bours . . . . are",
            f"{colour}.",
            f"- {n + 7} -",
        ]
        for n, colour in enumerate(colours)
    ]
    pages[2] = pages[2][:2]  # a page with little on it
    told: list[int] = []
    path = _pdf(tmp_path / "a.pdf", pages, "Lutz")
    found = list(entries(path, told.append))
    assert found == [
        Entry("Lutz", "", "Gate 0 is open; harbours are red.", "page 1"),
        Entry("Lutz", "", "Gate 1 is open; harbours are blue.", "page 2"),
        Entry("Lutz", "", "Gate 4 is open; har-", "page 3"),
        Entry("Lutz", "", "Gate 9 is open; harbours are new.", "page 4"),
    ]
    assert 0 < sum(told) <= path.stat().st_size


def test_left_and_right_pages_have_running_lines_of_their_own(tmp_path: Path) -> None:
    colours = ("red", "blue", "old", "new", "low", "high")
    pages = [
        ["Lutz" if n % 2 else "Its gates", f"Of all the gates number {n} has been {colour}."]
        + [f"It is {colour}.", f"Page {n + 1} of 6"]
        for n, colour in enumerate(colours)
    ]
    found = [each for each in entries(_pdf(tmp_path / "a.pdf", pages)) if isinstance(each, Entry)]
    assert [each.text for each in found] == [f"{page[1]} {page[2]}" for page in pages]


@pytest.mark.parametrize("lines", [["Gate 5"], ["The gate is open."], ["Lutz", "Gate 5"]])
def test_a_page_of_nothing_but_running_lines_keeps_them(tmp_path: Path, lines: list[str]) -> None:
    pages = [[line.replace("5", str(n)) for line in lines] for n in range(5)]
    found = list(entries(_pdf(tmp_path / "a.pdf", pages)))
    assert [each.text for each in found if isinstance(each, Entry)] == [
        " ".join(page) for page in pages
    ]


def test_a_damaged_pdf_is_named_without_a_traceback(tmp_path: Path) -> None:
    whole = _pdf(tmp_path / "a.pdf", [["The gate is open."]]).read_bytes()
    for damaged in (b"", b"not a PDF", whole[: len(whole) // 3]):
        (bad,) = entries(_file(tmp_path, "b.pdf", damaged))
        assert isinstance(bad, Bad)
        assert bad.where == "the file"
        assert "cannot be read" in bad.problem


def endless(job: list[Any]) -> dict[str, Any]:
    """In place of `kb.pdf.read`: its second page never ends, and its third ends the process."""
    if job[1] == 1:
        time.sleep(1000)
    if job[1] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"title": "", "pages": 4} if job[1] is None else {"lines": [f"It is page {job[1]}."]}


def test_a_pdf_without_text_is_named(tmp_path: Path) -> None:
    (bad,) = entries(_pdf(tmp_path / "a.pdf", [[], [""]]))
    assert isinstance(bad, Bad)
    assert "has no text; scanned pages need" in bad.problem


def crashing(job: list[Any]) -> dict[str, Any]:
    """In place of `kb.pdf.read`: every page ends the process."""
    if job[1] is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"title": "", "pages": 1000}


def test_a_file_whose_pages_all_crash_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "_READER", "tests.test_kb_pages:crashing")
    found = list(entries(_file(tmp_path, "a.pdf", "x")))
    assert len(found) == 1000
    assert found[-1] == Bad("page 1000", "cannot be read (it has ended too often)")


def test_a_page_that_never_ends_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "_READER", "tests.test_kb_pages:endless")
    monkeypatch.setattr(pdf, "_SECONDS", 1.0)
    path = _file(tmp_path, "a.pdf", "x")
    found = [each if isinstance(each, Bad) else each.text for each in entries(path)]
    assert found == [
        "It is page 0.",
        Bad("page 2", "cannot be read (took too long)"),
        Bad("page 3", "cannot be read (exit status -9)"),
        "It is page 3.",
    ]


def _parquet(path: Path, rows: int) -> Path:
    import pyarrow
    from pyarrow import parquet

    columns = {
        "title": pyarrow.array([f"Town {n}" for n in range(rows)]).dictionary_encode(),
        "text": pyarrow.array([f"It has {n} bells." if n != 3 else None for n in range(rows)]),
        "number": pyarrow.array(range(rows)),
    }
    parquet.write_table(pyarrow.table(columns), path, row_group_size=1000)
    return path


def test_a_parquet_file_is_its_rows(tmp_path: Path) -> None:
    told: list[int] = []
    path = _parquet(tmp_path / "a.parquet", 2500)
    found = list(entries(path, told.append))
    assert found[0] == Entry("Town 0", "", "It has 0 bells.", "row 1")
    assert found[3] == Bad("row 4", "has no text")
    assert found[2499] == Entry("Town 2499", "", "It has 2499 bells.", "row 2500")
    assert len(found) == 2500
    assert 0 < sum(told) <= path.stat().st_size


def test_a_damaged_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = _parquet(tmp_path / "a.parquet", 2500)
    raw = path.read_bytes()
    for damaged in (
        b"",
        b"PAR1",
        raw[:-100],
        b"PAR1" + bytes(len(raw) // 2) + raw[len(raw) // 2 :],
    ):
        with pytest.raises(UserError, match=r"a\.parquet, .*: damaged or not Parquet"):
            list(entries(_file(tmp_path, "a.parquet", damaged)))
    parquet.write_table(pyarrow.table({"number": [1]}), path)
    with pytest.raises(UserError, match=r"a\.parquet: has no column of text"):
        list(entries(path))


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    yield path
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_in_place_of_a_file_is_refused(
    tmp_path: Path, pipe: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pipe.rename(tmp_path / f"a{kind}")
    status: list[int] = []
    command = ["--subject", "geography", "--input", str(path), "--out", str(tmp_path)]
    # A thread, because what waits for a writer waits for ever.
    running = threading.Thread(target=lambda: status.append(main(command)), daemon=True)
    running.start()
    running.join(20)
    assert status == [1]
    assert f"{path}: not a regular file" in capsys.readouterr().err
    path.unlink()


@pytest.mark.parametrize(
    ("name", "library"),
    [("a.html", "selectolax"), ("a.md", "markdown_it"), ("a.pdf", "pypdf")]
    + [("a.parquet", "pyarrow")],
)
def test_the_extra_is_named_where_a_library_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str
) -> None:
    monkeypatch.setattr("runtime.common.extras.find_spec", lambda name: None)
    with pytest.raises(MissingLibraryError, match=rf"needs {library}: .*\[knowledge\]"):
        list(entries(_file(tmp_path, name, "x")))


def test_a_folder_is_the_files_in_it_that_are_understood(tmp_path: Path) -> None:
    names = ["b/c.md", "b/a.txt", "a.tsv", "notes.doc"]
    files = [_file(tmp_path, f"raw/{name}", "x") for name in names]
    assert files_of([files[0], tmp_path / "raw"]) == [files[0], files[2], files[1], files[0]]
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"none: no file in it of a kind that is understood"):
        files_of([tmp_path / "none"])
