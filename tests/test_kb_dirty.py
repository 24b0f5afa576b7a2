"""What `kb.preprocess` makes of raw files as teams have them: from the web and of any shape."""

from __future__ import annotations

import datetime
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from kb.entries import Bad, Entry
from kb.passages import clean
from kb.reading import entries, files_of
from runtime.common.errors import UserError
from tests.lands import raw_file


def _told(folder: Path, name: str, text: str | bytes) -> list[tuple[str, str, str]]:
    found = [each for each in entries(raw_file(folder, name, text)) if isinstance(each, Entry)]
    return [(each.title, each.section, each.text) for each in found]


def _page(folder: Path, page: str | bytes, name: str = "a.html") -> list[str]:
    pytest.importorskip("selectolax")
    return [text for _, _, text in _told(folder, name, page)]


# Pages


def test_a_cell_that_spans_rows_or_columns_counts_in_each(tmp_path: Path) -> None:
    page = """<table><tr><th rowspan=2>Year<th rowspan=2>Who<th colspan=2>Votes</tr>
    <tr><th>first<th>second</tr>
    <tr><td rowspan=2>2001<td>Toledo<td>10<td>20</tr><tr><td>Humala<td colspan=2>no vote</tr>
    <tr><th colspan=4>By the congress</tr><tr><td>2020<td>Merino<td>1<td></tr></table>
    <table><tr><th rowspan="2">Language<td>Spanish</tr><tr><td>Quechua</tr></table>"""
    assert _page(tmp_path, page) == [
        "Year: 2001; Who: Toledo; Votes first: 10; Votes second: 20",
        "Year: 2001; Who: Humala; Votes first, Votes second: no vote",
        "By the congress",
        "Year: 2020; Who: Merino; Votes first: 1",
        "Language: Spanish",
        "Language: Quechua",
    ]


@pytest.mark.parametrize(
    "head", ["<tr><td><th>2001<th>2002</tr>", "<thead><tr><td><td>2001<td>2002</tr></thead>"]
)
def test_headings_may_have_an_empty_corner_or_be_plain_cells(tmp_path: Path, head: str) -> None:
    page = f"<table>{head}<tr><th>Lima<td>7<td>8</tr><tr><th>Cusco<td><td></tr></table>"
    assert _page(tmp_path, page) == ["Lima; 2001: 7; 2002: 8", "Cusco"]


def test_the_names_of_a_table_are_not_those_of_one_within_it(tmp_path: Path) -> None:
    inner = "<table><tr><th>Town<th>Bells</tr><tr><td>Lutz<td>7</tr></table>"
    page = f"""<table><tr><th>Land<th>Capital</tr><tr><td>Peru<td>{inner}</tr>
    <tr><td>Chile<td>Santiago</tr></table>"""
    assert _page(tmp_path, page) == [
        "Peru",
        "Town: Lutz; Bells: 7",
        "Land: Chile; Capital: Santiago",
    ]


@pytest.mark.parametrize(
    ("span", "cells"),
    [("rowspan=0", [1, 2, 3]), ("rowspan=9999", [1, 2, 3]), ("rowspan=x", [1, 1, 1])]
    + [("colspan=9999999", [1, 1, 1]), ("colspan=-1", [1, 1, 1])],
)
def test_spans_of_any_size_are_read(tmp_path: Path, span: str, cells: list[int]) -> None:
    page = f"<table>{f'<tr><td {span}>a<td>b</tr>' * 3}</table>"
    assert _page(tmp_path, page) == ["; ".join(["a"] * n + ["b"]) for n in cells]


def test_what_is_raised_stays_a_power(tmp_path: Path) -> None:
    page = "<p>It has 10<sup>6</sup> km<sup>2</sup><sup>[<a>1</a>]</sup> on the 4<sup>th</sup>."
    assert _page(tmp_path, page) == ["It has 10⁶ km²[1] on the 4th."]
    assert clean("10<sup>−<i>6</i></sup> m<SUP class='x'>2</SUP>, 4<sup>th</sup>") == "10⁻⁶ m², 4th"


def test_what_is_not_seen_does_not_part_words(tmp_path: Path) -> None:
    (text,) = _page(tmp_path, "<p>Haupt&shy;stadt Li&#8203;ma<wbr>s<i style='display: none'>0</i>")
    assert clean(text) == "Hauptstadt Limas"
    assert clean("Li<wbr>ma") == "Lima"


@pytest.mark.parametrize("around", ["<main></main>{}", "<main>One</main>{}", "<div>{}</div>"])
def test_text_beside_the_main_part_is_read_if_that_is_not_all(tmp_path: Path, around: str) -> None:
    text = "<main>Two</main>" if "One" in around else "<p>Two"
    assert _page(tmp_path, around.format(text))[-1] == "Two"


def test_only_blocks_that_cannot_be_decoded_are_left_out(tmp_path: Path) -> None:
    pytest.importorskip("selectolax")
    page = "<meta charset=gbk><h1>秘鲁</h1><p>首都是利马。</p><p>北京#</p><p>语言。</p>".encode(
        "gbk"
    )
    found = list(entries(raw_file(tmp_path, "a.html", page.replace(b"#", b"\xff"))))
    assert found == [
        Entry("秘鲁", "", "首都是利马。", "block 2"),
        Bad("block 3", "is not in the encoding of the page"),
        Entry("秘鲁", "", "语言。", "block 4"),
    ]
    (bad,) = entries(raw_file(tmp_path, "b.html", page.replace(b"<meta charset=gbk>", b"")))
    assert isinstance(bad, Bad)
    assert "names no encoding and is not in utf-8 (byte 4); convert it first" in bad.problem


@pytest.mark.parametrize(
    ("page", "encoding"),
    [
        ('<?xml version="1.0" encoding="ISO-8859-1"?><html><p>Köln', "latin-1"),
        ("<!-- <meta charset=latin-1> --><meta charset=utf-8><p>Köln", "utf-8"),
        ("<meta charset=utf-16><p>Köln", "utf-8"),
    ],
)
def test_the_encoding_is_the_one_that_browsers_take(
    tmp_path: Path, page: str, encoding: str
) -> None:
    assert _page(tmp_path, page.encode(encoding)) == ["Köln"]


def test_elements_of_xhtml_may_end_where_they_begin(tmp_path: Path) -> None:
    page = "<html><head><title/><script src='a.js' /></head><body><p>Lima</p></body></html>"
    assert _page(tmp_path, page, "a.xhtml") == ["Lima"]
    assert _page(tmp_path, "<?xml version='1.0'?>" + page) == ["Lima"]


# Markdown

MARKDOWN = """---
title: "Peru"
tags: [a, b]
---

Peru is a land: see [Lima](http://x.org/a_(b) "the town") and [![Map](m.png)](big.png).

```sh
# no heading

ls | wc
```

Towns
-----

| Town | Bells |
| :--- | ---: |
| [Lima](x) | 7 \\| 8 |
| Cusco | |

<!-- no fact

# nor a heading -->

[lima]: http://x.org "Lima"

- one
---

   ## C# {#c-sharp}

<table><tr><th>Capital<td>Lima</table>

Old
===

End."""


def test_markdown_is_read_as_it_is_shown(tmp_path: Path) -> None:
    pytest.importorskip("selectolax")
    assert _told(tmp_path, "a.md", MARKDOWN) == [
        ("Peru", "", "Peru is a land: see Lima and Map."),
        ("Peru", "", "# no heading\n\nls | wc"),
        ("Peru", "Towns", "Town: Lima; Bells: 7 | 8"),
        ("Peru", "Towns", "Town: Cusco"),
        ("Peru", "Towns", "- one"),
        ("Peru", "C#", "Capital: Lima"),
        ("Old", "", "End."),
    ]


@pytest.mark.parametrize("begin", ["---\n\n", "---\nno end\n", "+++\n" + "x\n" * 300, "```\n"])
def test_a_beginning_that_does_not_end_is_text(tmp_path: Path, begin: str) -> None:
    told = _told(tmp_path, "a.md", f"{begin}Peru is a land.\n\nIt is high.")
    text = "\n".join(text for _, _, text in told)
    assert "Peru is a land." in text
    assert text.endswith("It is high.")


CODE_AND_QUOTES = """`a[0](x)` is code, [Lima](x) none, 2*3*4 = 24.

> | Town | Bells |
> | --- | --- |
> | Lima | 7 | <b>more</b>

1. one

   ```
   # no heading
   ```
2. two

[Anna]: Yes.

A long line
and a rule
---
End."""


def test_markdown_is_read_as_commonmark_with_tables(tmp_path: Path) -> None:
    assert [text for _, _, text in _told(tmp_path, "a.md", CODE_AND_QUOTES)] == [
        "`a[0](x)` is code, Lima none, 2*3*4 = 24.",
        "Lima; 7; <b>more</b>",
        "1. one",
        "# no heading\n2. two",
        "[Anna]: Yes.",
        "A long line\nand a rule",
        "End.",
    ]


@pytest.mark.parametrize("mark", ["- ", "> "])
def test_markdown_that_is_nested_too_deeply_is_kept(tmp_path: Path, mark: str) -> None:
    assert "Lima" in _told(tmp_path, "a.md", mark * 150 + "Lima\n")[0][2]


def test_a_line_that_cannot_be_read_loses_its_block_alone(tmp_path: Path) -> None:
    text = b"# A\n\nx\n#\ny\n\n|a|b|\n|-|-|\n|1|2|\n#\n|3|4|\n\n- p\n\n- #\n- q\n\n#\n---\nz"
    found = list(entries(raw_file(tmp_path, "a.md", text.replace(b"#\n", b"\xff\n"))))
    assert [each.where for each in found if isinstance(each, Bad)] == [
        f"line {number}" for number in (4, 10, 15, 18)
    ]
    # The section that the last block is in is not known.
    assert [each for each in found if isinstance(each, Entry)] == [
        Entry("A", "", "a: 1; b: 2", "line 9"),
        Entry("A", "", "a: 3; b: 4", "line 11"),
        Entry("A", "", "- p", "line 13"),
        Entry("A", "", "- q", "line 16"),
        Entry("A", "", "z", "line 20"),
    ]


@pytest.mark.parametrize("chunk", [30, 1000])
def test_markdown_in_chunks_gives_what_it_gives_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    rows = "".join(f"| {n} | {n + 1} |\n" for n in range(99))
    items = "".join(f"- item {n}\n\n" for n in range(99))
    table = f"| n | m |\n| - | - |\n{rows}"
    code = "# x\n\n" * 99
    text = f"# A\n\n```\n{code}```\n\n## B\n\n{table}\n{items}C\n=\nEnd."
    path = raw_file(tmp_path, "a.md", text)
    at_once = list(entries(path))
    assert len(at_once) == 1 + 99 + 99 + 1
    monkeypatch.setattr("kb.markdown._CHUNK", chunk)
    assert list(entries(path)) == at_once


# Tables and objects


def test_a_first_line_may_name_the_columns(tmp_path: Path) -> None:
    text = "id\ttext\ttitle\n1\tIt is high.\tPeru\n2\tIt is long.\tChile\n3\tx\n"
    assert _told(tmp_path, "a.tsv", text) == [
        ("Peru", "", "It is high."),
        ("Chile", "", "It is long."),
    ]
    assert _told(tmp_path, "a.tsv", "Question\tAnswer\nWhere?\tHere\n") == [("Where?", "", "Here")]
    assert _told(tmp_path, "a.tsv", "Body\tIt has bones.\n") == [("Body", "", "It has bones.")]


def test_a_cell_may_be_quoted_and_begin_with_a_hash(tmp_path: Path) -> None:
    text = (
        'Peru\t"It is ""high""\tand dry."\n#1 hit\tA song.\n"Heroes" (song)\tIt is "old.\n# note\n'
    )
    assert _told(tmp_path, "a.tsv", text) == [
        ("Peru", "", 'It is "high"\tand dry.'),
        ("#1 hit", "", "A song."),
        ('"Heroes" (song)', "", 'It is "old.'),
    ]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            {"name": "Peru", "capital": "Lima", "people": 34_000_000, "high": True, "at": [1, 2]},
            [("Peru", "", "capital: Lima; people: 34000000")],
        ),
        ({"a": "x", "b": "y", "c": ["z", "w"]}, [("", "", "a: x; b: y; c: z, w")]),
        ({"area": {"land": {"text": "9 km"}, "sea": 2.0}}, [("", "", "area: land: 9 km, sea: 2")]),
        ({"sentence": "Lima is old."}, [("", "", "Lima is old.")]),
        ({"title": "Peru", "text": ["High.", "Dry."]}, [("Peru", "", "High.\nDry.")]),
        (
            {"question": "Where?", "answers": ["Here", "There"], "context": "It is so."},
            [("Where?", "", "Here\nThere\nIt is so.")],
        ),
        (
            {
                "title": "Peru",
                "sections": [
                    {"heading": "Food", "text": "Maize."},
                    {"title": "Past", "parts": [{"text": "Inca."}]},
                ],
            },
            [("Peru", "Food", "Maize."), ("Peru", "Past", "Inca.")],
        ),
        ({"title": "Peru", "text": None, "id": 7}, []),
    ],
)
def test_an_object_loses_no_fact(
    tmp_path: Path, value: Any, told: list[tuple[str, str, str]]
) -> None:
    assert _told(tmp_path, "a.jsonl", json.dumps(value)) == told
    pytest.importorskip("ijson")
    assert _told(tmp_path, "a.json", json.dumps([value])) == told


def test_an_object_nested_too_deeply_is_named(tmp_path: Path) -> None:
    line = '{"text": "x"}\n' + '{"a": [' * 300 + '{"text": "y"}' + "]}" * 300
    _, bad = entries(raw_file(tmp_path, "a.jsonl", line))
    assert isinstance(bad, Bad)
    assert bad.where.startswith("line 2")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ({"id": "5", "title": "Peru", "text": "It is high."}, [("Peru", "", "It is high.")]),
        (
            {"name": "Peru", "capital": "Lima", "people": 34, "past": {"was": "Inca"}, "ok": None},
            [
                ("Peru", "", "capital: Lima"),
                ("Peru", "", "people: 34"),
                ("Peru", "past", "was: Inca"),
            ],
        ),
        ({"Peru": "It is high.", "Name": "A word."}, [("Name", "", "A word.")]),
        ({"question": "Where?", "answer": "Here"}, [("Where?", "", "Here")]),
    ],
)
def test_a_json_file_may_be_one_object(
    tmp_path: Path, text: dict[str, Any], told: list[tuple[str, str, str]]
) -> None:
    pytest.importorskip("ijson")
    assert _told(tmp_path, "a.json", json.dumps(text))[-len(told) :] == told


def test_json_lines_in_a_json_file_are_told(tmp_path: Path) -> None:
    pytest.importorskip("ijson")
    with pytest.raises(UserError, match=r"a\.json, after record 1: .*name the file \.jsonl"):
        _told(tmp_path, "a.json", '{"title": "a", "text": "b"}\n{"title": "c", "text": "d"}\n')


def test_a_row_of_parquet_keeps_numbers_and_dates(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "name": ["Peru", "Chile"],
        "people": [34.0, float("nan")],
        "since": [datetime.date(1821, 7, 28)] * 2,
        "towns": [["Lima", "Cusco"], None],
        "vector": [[0.1, 0.2]] * 2,
        "picture": [b"x"] * 2,
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert [each.text for each in entries(tmp_path / "a.parquet") if isinstance(each, Entry)] == [
        "people: 34; since: 1821-07-28; towns: Lima, Cusco",
        "since: 1821-07-28",
    ]


# Folders


def test_what_a_folder_loses_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.md", "b.csv", "c.CSV", "deep/d.md", "deep/e"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert files_of([tmp_path]) == [tmp_path / "a.md", tmp_path / "deep" / "d.md"]
    assert "left out files of other kinds (.csv: 2, no suffix: 1)" in caplog.text

    def scandir(path: str) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError):
        files_of([tmp_path])
