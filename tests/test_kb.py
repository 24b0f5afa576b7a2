"""What `kb.preprocess` makes of raw files."""

from __future__ import annotations

import io
import json
import logging
from functools import partial
from pathlib import Path

import pytest

from kb import indexing
from kb.entries import LONGEST_ENTRY, Bad, Entry
from kb.json_stream import json_entries
from kb.making import make
from kb.passages import drafts, split
from kb.preprocess import main
from kb.reading import entries
from runtime.common.errors import UserError
from runtime.retrieval import Index, Retrieval
from runtime.retrieval.files import base_path, index_path
from runtime.retrieval.search import find
from runtime.settings import PROJECT_DIR
from tests.lands import raw_file

FACTS = [("Peru", "Cities", "Lima is the capital."), ("Chile", "", "Santiago is the capital.")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.json",
            '[{"title": "Peru", "section": "Cities", "text": "Lima is the capital."},\n'
            ' {"name": "Chile", "content": "Santiago is the capital."}]',
        ),
        (
            "a.json",
            '{"version": 1, "Peru": {"heading": "Cities", "fact": "Lima is the capital."},\n'
            ' "Chile": "Santiago is the capital."}',
        ),
        (
            "a.json",
            '{"passages": [{"topic": "Peru", "category": "Cities", "body": "Lima is the capital."'
            '}, {"entity": "Chile", "text": "Santiago is the capital.", "id": 7}]}',
        ),
        (
            "a.jsonl",
            '\ufeff{"Title": "Peru", "Section": "Cities", "Text": "Lima is the capital."}\n\n'
            '{"title": "Chile", "text": "Santiago is the capital."}\n',
        ),
        (
            "a.md",
            "# Peru\n\n## Cities ##\n\nLima is the capital.\n\n<!-- no fact -->\n\n"
            "# Chile\nSantiago is the capital.",
        ),
        (
            "a.tsv",
            "# a comment\nPeru\tCities\tLima is the capital.\nChile\tSantiago is the capital.",
        ),
    ],
)
def test_every_format_gives_the_same_entries(tmp_path: Path, name: str, text: str) -> None:
    found = list(entries(raw_file(tmp_path, name, text)))
    assert [(e.title, e.section, e.text) for e in found if isinstance(e, Entry)] == FACTS
    assert len(found) == 2


def test_plain_text_is_its_paragraphs(tmp_path: Path) -> None:
    found = list(entries(raw_file(tmp_path, "a.txt", "# No heading\nhere.\n\n\nSecond.\n")))
    assert found == [
        Entry("", "", "# No heading\nhere.", "line 1"),
        Entry("", "", "Second.", "line 5"),
    ]


def test_a_question_is_the_title_of_its_answer(tmp_path: Path) -> None:
    path = raw_file(tmp_path, "a.jsonl", '{"question": "Where is Lima?", "answer": "In Peru"}')
    assert list(entries(path)) == [Entry("Where is Lima?", "", "In Peru", "line 1")]
    make("geography", [path], tmp_path)
    retrieval = Retrieval.load(tmp_path, {"geography": "always"}, 3)
    assert retrieval.passages("geography", "In which land is Lima?") == ["Where is Lima? In Peru"]


def test_a_record_without_a_known_key_is_all_its_texts(tmp_path: Path) -> None:
    (found,) = entries(raw_file(tmp_path, "a.jsonl", '{"riddle": "外甥打灯笼", "answer": "照旧"}'))
    assert found == Entry("", "", "外甥打灯笼: 照旧", "line 1")


@pytest.mark.parametrize(
    ("name", "text", "where", "problem"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": \n', "line 2", "is not JSON"),
        ("a.jsonl", '{"text": "x"}\n[1]\n', "line 2", "is a list"),
        ("a.jsonl", '{"text": "x"}\n{"title": " "}\n', "line 2", "has no text"),
        ("a.jsonl", "[" * 100_000, "line 1", "is not JSON"),
        ("a.json", '[\n{"text": "x"},\n\n7]', "record 2", "is a int"),
        ("a.tsv", "a\tb\nc\t\n", "line 2", "has no text"),
        ("a.tsv", "a\tb\tc\td\n", "line 1", "4 columns"),
        ("a.md", "x" * (LONGEST_ENTRY + 1), "line 1", "longer than 16 MiB"),
    ],
)
def test_a_bad_entry_is_named_by_its_line(
    tmp_path: Path, name: str, text: str, where: str, problem: str
) -> None:
    (bad,) = (e for e in entries(raw_file(tmp_path, name, text)) if isinstance(e, Bad))
    assert bad.where == where
    assert problem in bad.problem


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.doc", "x", r"a\.doc: not a kind of file that is understood \(\.json, "),
        ("a.json", '[\n{"text": "x"}\n{"text": "y"}]', r"a\.json, after record 1: not JSON"),
        ("a.json", '[\n{"text": "x"},\n{"te', r"a\.json, after record 1: not JSON"),
        ("a.json", '"text"', r"a\.json, at its beginning: .*a list or an object is expected"),
        ("a.json", "[]\n[]", r"a\.json, at its beginning: not JSON"),
        ("a.json", "", r"a\.json, at its beginning: not JSON"),
        ("a.json", b'["\xff"]', r"a\.json, at its beginning: .*UTF-?8"),
        ("a.json", "[" * 100_000, r"a\.json, at its beginning: .*nested too deeply"),
        ("a.json", '["' + "x" * (LONGEST_ENTRY + (1 << 20)) + '"]', "at its beginning: .*16 MiB"),
    ],
)
def test_a_file_that_cannot_be_read_on_is_refused_by_file_and_place(
    tmp_path: Path, name: str, text: str | bytes, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        list(entries(raw_file(tmp_path, name, text)))


class _Endless(io.RawIOBase):
    """A JSON list without end, that tells how much of it was read."""

    def __init__(self) -> None:
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "all of it was asked for"
        if not size:
            return b""
        start, self.count = self.count, self.count + size
        record = b'{"text": "an entry of a file that does not end"},\n'
        cycle = record * (size // len(record) + 2)
        skip = (start - 1) % len(record)
        return b"[" + cycle[: size - 1] if start == 0 else cycle[skip : skip + size]


def test_a_json_list_of_any_length_is_read_piece_by_piece() -> None:
    file = _Endless()
    found = json_entries(file, lambda count: None)  # type: ignore[arg-type]
    taken = [next(found) for _ in range(50_000)]
    text = "an entry of a file that does not end"
    assert taken[-1] == Entry("", "", text, "record 50000")
    assert file.count < 50_000 * 50 + (2 << 20)


def test_entries_of_one_topic_are_merged_as_long_as_they_fit() -> None:
    facts = [
        Entry("Peru", "People / Population", "34 million", "line 1"),
        Entry("Peru", "People / Languages", "Spanish, <b>Quechua</b>\x07", "line 2"),
        Entry("Peru", "Economy", "Copper", "line 3"),
        Entry("Chile", "Economy", "Copper", "line 4"),
    ]
    found = [(d.title, d.section, d.text, d.where) for d in drafts(facts)]
    assert found == [
        ("Peru", "People", "Population: 34 million\nLanguages: Spanish, Quechua", "line 1"),
        ("Peru", "Economy", "Copper", "line 3"),
        ("Chile", "Economy", "Copper", "line 4"),
    ]
    assert len(list(drafts(facts, length=2))) > 3


def test_long_texts_are_split_between_sentences_and_endless_words_are_cut() -> None:
    text = "One two three. Four five six. Seven eight nine ten eleven twelve thirteen."
    assert list(split(text, 6)) == [
        "One two three. Four five six.",
        "Seven eight nine ten eleven twelve",
        "thirteen.",
    ]
    assert list(split("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。", 8)) == [
        "春眠不觉晓，处处闻啼鸟。",
        "夜来风雨声，花落知多少。",
    ]
    assert max(map(len, split("x" * 10**6, 10))) <= 1000


def _texts(folder: Path, subject: str = "geography") -> list[str]:
    stored = json.loads(base_path(folder, subject).read_text("utf-8"))
    return [passage["text"] for passage in stored["passages"]]


LONG = "The river rises in the snow of the high mountains and runs through {} wide green valleys"


def test_what_is_said_again_goes_but_not_what_differs_by_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kb.making.drafts", partial(drafts, length=30))
    same = (LONG + " before it reaches the town where the old stone bridge stands.").format("many")
    raw = [
        {"title": "A", "text": same},
        {"title": "A", "text": same},  # word for word
        {"title": "A", "text": same.replace("the old", "an old").replace(".", "!").upper()},
        {"title": "A", "text": same.replace("many", "7")},
        {"title": "A", "text": same.replace("many", "8")},
        {"title": "B", "text": same},
        {"title": "?", "text": "?!"},
        {"title": "A", "text": "Something else stands here, about the history of the town."},
    ]
    # A text of its own between, so that they are not merged into one passage.
    lines = [json.dumps(entry) for entry in raw]
    path = raw_file(tmp_path, "a.jsonl", "\n".join(lines))
    summary = make("geography", [path], tmp_path)
    assert _texts(tmp_path) == [raw[n]["text"] for n in (0, 3, 4, 5, 7)]
    assert (summary.entries, summary.passages) == (8, 5)
    assert dict(summary.dropped) == {
        "entries that repeat an earlier one": 2,
        "passages without words": 1,
    }
    assert "dropped: 2 entries that repeat an earlier one" in str(summary)


WORDS = " ".join(f"word{n}" for n in range(72))


@pytest.mark.parametrize(
    "texts",
    [
        [
            f"{WORDS} {name}."
            for name in ("Anna", "Boris", "copper", "iron", "Ana", "李", "王", "É")
        ],
        [f"The gate is {word} open, and {WORDS}." for word in ("always", "never", "not", "now")],
        ["Rome won against Carthage.", "Carthage won against Rome."],
        [f"It is {n} degrees there." for n in ("5", "-5", "1.5", "15", "5 %", "\u22125")],
        ["春天来了，花开了。", "春天没来，花开了。", "花开了，春天来了。"],
    ],
    ids=["names", "denials", "order", "numbers", "Chinese"],
)
def test_a_name_a_number_or_a_denial_makes_two(tmp_path: Path, texts: list[str]) -> None:
    path = raw_file(tmp_path, "a.txt", "\n\n".join([*texts, *texts]))
    summary = make("geography", [path], tmp_path)
    assert _texts(tmp_path) == texts
    assert summary.dropped["entries that repeat an earlier one"] == len(texts)


def test_one_sentence_does_not_fill_a_passage_or_what_is_shown(tmp_path: Path) -> None:
    same = {"title": "Lutz", "text": "The gate is open."}
    rest = [
        {"title": "Lutz", "text": f"The gate is open. {WORDS} {WORDS} bell{n}."} for n in range(3)
    ]
    other = [{"title": f"Town {n}", "text": f"It has {n} bells."} for n in range(20)]
    lines = [json.dumps(each) for each in (*[same] * 40, *rest, *other)]
    summary = make("geography", [raw_file(tmp_path, "a.jsonl", "\n".join(lines))], tmp_path)
    assert summary.dropped["entries that repeat an earlier one"] == 39
    index = Index.load(tmp_path, "geography")
    shown = " ".join(find(index, "Is the gate of Lutz open?", 8).passages)
    assert shown.count("The gate is open.") == 1


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_on_any_system(tmp_path: Path, ends: str) -> None:
    for name, text in (
        ("a.tsv", "Lima is a town.\nChile\tIt is long."),
        ("a.txt", "Lima is a town.\n\nIt is long."),
        ("a.jsonl", '"Lima is a town."\n{"text": "It is long."}\n'),
    ):
        found = list(entries(raw_file(tmp_path, name, text.replace("\n", ends))))
        assert [e.text for e in found if isinstance(e, Entry)] == ["Lima is a town.", "It is long."]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.tsv", "a.jsonl", "a.json"])
def test_other_encodings_are_told(tmp_path: Path, name: str) -> None:
    text = '["Das Tor in Köln"]\n' if name == "a.json" else '"Das Tor in Köln"\n'
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        with pytest.raises(UserError, match=rf"{name}: not UTF-8, but UTF-16"):
            list(entries(raw_file(tmp_path, name, text.encode(encoding))))
    latin = raw_file(tmp_path, name, text.encode("latin-1"))
    if name == "a.json":
        with pytest.raises(UserError, match=r"UTF-?8"):
            list(entries(latin))
        return
    (bad,) = entries(latin)
    assert isinstance(bad, Bad)
    assert bad.where == "line 1"
    assert "is not UTF-8; convert the file" in bad.problem


def test_a_paragraph_without_one_of_its_lines_is_left_out(tmp_path: Path) -> None:
    text = "It is said that\nthe k\xf6nig is not\na good man.\n\nThe next one.".encode("latin-1")
    found = list(entries(raw_file(tmp_path, "a.txt", text)))
    assert [type(each) for each in found] == [Bad, Entry]
    assert isinstance(found[1], Entry)
    assert found[1].text == "The next one."


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    path = raw_file(
        tmp_path, "a.tsv", "".join(f"Town {n}\tIt has {n} bells.\n" for n in range(500))
    )
    for name in ("one", "two"):
        make("geography", [path], tmp_path / name)
    for file in (base_path, index_path):
        one, two = (file(tmp_path / name, "geography").read_bytes() for name in ("one", "two"))
        assert one == two


def test_the_corpora_of_this_project_make_a_base(tmp_path: Path) -> None:
    make("geography", [PROJECT_DIR / "data" / "corpora" / "geography.jsonl"], tmp_path)
    retrieval = Retrieval.load(tmp_path, {"geography": "always"}, 3)
    shown = retrieval.passages("geography", "Name the river that flows through Budapest.")
    assert any("The Danube" in text for text in shown)


def test_a_passage_tells_where_it_comes_from_and_what_it_is_about(tmp_path: Path) -> None:
    path = raw_file(tmp_path, "a.tsv", "Peru\tGovernment\tCapital: Lima, founded in 1535")
    make("geography", [path], tmp_path)
    (passage,) = json.loads(base_path(tmp_path, "geography").read_text("utf-8"))["passages"]
    assert passage == {
        "id": 0,
        "title": "Peru",
        "section": "Government",
        "text": "Capital: Lima, founded in 1535",
        "tags": ["capital", "year"],
        "source": "a.tsv, line 1",
    }


def test_what_fails_leaves_the_old_base_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = raw_file(tmp_path, "a.tsv", "Peru\tThe capital is Lima.")
    make("geography", [path], tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UserError, match="no passage is left"):
        make("geography", [raw_file(tmp_path / "..", "empty.tsv", "a\t?\n")], tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(indexing.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        make("geography", [raw_file(tmp_path / "..", "b.tsv", "Chile\tIt is long.")], tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_the_command_names_bad_entries_and_says_what_was_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["{"] * 30 + ['{"title": "Peru", "text": "The capital is Lima."}']
    path = raw_file(tmp_path, "a.jsonl", "\n".join(lines))
    with caplog.at_level(logging.WARNING):
        assert main(["--subject", "geography", "--input", str(path), "--out", str(tmp_path)]) == 0
    assert f"{path}, line 20 is not JSON" in caplog.text
    assert "line 21" not in caplog.text
    assert "dropped: 30 bad entries" in capsys.readouterr().out
