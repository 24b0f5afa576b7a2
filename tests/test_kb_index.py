"""The index of a base: search tokens, how they are counted on disk, and how passages are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kb import indexing
from kb.duplicates import Seen
from kb.indexing import IndexWriter
from kb.making import make
from runtime.common.extras import MissingLibraryError
from runtime.retrieval import Index, KnowledgeError
from runtime.retrieval.search import find
from runtime.retrieval.tags import asked_for, tags_of
from runtime.retrieval.tokens import tokens
from tests.lands import raw_file


@pytest.fixture(scope="module")
def many() -> list[list[str]]:
    random = np.random.default_rng(1)
    words = [f"w{n}" for n in range(300)]
    return [list(random.choice(words, random.integers(3, 40))) for _ in range(400)]


def _portions(many: list[list[str]], folder: Path, portion: int) -> dict[str, np.ndarray]:
    writer = IndexWriter(folder, portion)
    for words in many:
        writer.add(words)
    path = folder / "index.npz"
    header = {"subject": "history", "base_sha256": "0" * 64, "chinese": False}
    writer.write(path, header, np.arange(len(many) + 1))
    with np.load(path) as stored:
        return dict(stored)


def test_scores_are_those_of_bm25s(many: list[list[str]], tmp_path: Path) -> None:
    bm25s = pytest.importorskip("bm25s")
    theirs = bm25s.BM25(k1=indexing.K1, b=indexing.B, method="lucene", backend="numpy")
    theirs.index(many, show_progress=False)
    mine = _portions(many, tmp_path, 10**6)
    words = mine["vocabulary"].tobytes().decode().split("\n")
    for number, word in enumerate(words):
        expected = theirs.get_scores([word])
        places = slice(mine["indptr"][number], mine["indptr"][number + 1])
        scores = np.zeros(len(many), np.float32)
        scores[mine["indices"][places]] = mine["data"][places]
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_an_index_does_not_depend_on_how_much_is_in_memory_at_once(
    many: list[list[str]], tmp_path: Path
) -> None:
    whole, pieces = _portions(many, tmp_path, 10**6), _portions(many, tmp_path, 100)
    for name, array in whole.items():
        assert np.array_equal(array, pieces[name]), name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What is the capital of Latvia's neighbours?", ["capital", "latvia", "neighbour"]),
        ("Cities, bosses, buses and the Andes", ["city", "bosse", "buse", "ande"]),
        ("São Tomé ＦＵＬＬ 1,234,567", ["sao", "tome", "full", "1234567"]),
        ("唐代诗人李白 (701年)", ["唐代", "代诗", "诗人", "人李", "李白", "701", "年"]),
        ("二〇〇一", ["二〇", "〇〇", "〇一"]),
        ("が か ぱ ﾊﾟﾝ", ["が", "か", "ぱ", "パン"]),  # marks make other letters
        ("食べる", ["食べ", "べる"]),
        ("мой ещё ΆΘΛΟΣ 각국", ["мой", "еще", "αθλοσ", "각국"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("مُحَمَّد", ["محمد"]),
    ],
)
def test_search_tokens(text: str, found: list[str]) -> None:
    assert tokens(text) == found


@pytest.mark.parametrize(
    ("traditional", "simplified"),
    [("臺灣的首都是臺北", "台湾的首都是台北"), ("後來乾隆皇帝", "后来乾隆皇帝")],
)
def test_traditional_and_simplified_texts_find_each_other(
    tmp_path: Path, traditional: str, simplified: str
) -> None:
    pytest.importorskip("opencc")
    assert tokens(traditional) == tokens(simplified)
    for stored, asked in ((traditional, simplified), (simplified, traditional)):
        raw = tmp_path / "a.txt"
        raw.write_text(f"{stored}。\n\n别的句子在这里。", "utf-8")
        make("chinese", [raw], tmp_path)
        found = find(Index.load(tmp_path, "chinese"), asked, 1)
        assert found.passages == [f"{stored}。"]
        assert found.features["coverage"] == 1.0


def test_kinds_of_fact_are_known_in_traditional_characters() -> None:
    pytest.importorskip("opencc")
    assert tags_of("官方語言與貨幣") == tags_of("官方语言与货币") == ["language", "money"]
    assert (
        asked_for("誰寫了紅樓夢？哪年？") == asked_for("谁写了红楼梦？哪年？") == {"author", "year"}
    )


def test_chinese_text_is_not_searched_without_opencc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where there is some: other bases do without, whatever is asked of them."""
    pytest.importorskip("opencc")
    chinese, english = tmp_path / "a.txt", tmp_path / "b.txt"
    chinese.write_text("臺北是臺灣的首都。", "utf-8")
    english.write_text("Taipei is the capital of Taiwan.", "utf-8")
    make("chinese", [chinese], tmp_path)
    make("geography", [english], tmp_path)
    monkeypatch.setattr("runtime.retrieval.tokens._to_simplified", lambda: None)
    with pytest.raises(KnowledgeError, match=r"chinese.*npz: searching Chinese .* needs opencc"):
        Index.load(tmp_path, "chinese")
    assert find(Index.load(tmp_path, "geography"), "首都", 1).passages == []
    monkeypatch.setattr("runtime.common.extras.find_spec", lambda name: None)
    with pytest.raises(MissingLibraryError, match=r"needs opencc: .*\[knowledge\]"):
        make("chinese", [chinese], tmp_path)


def test_what_was_said_is_known_however_much_it_is() -> None:
    seen = Seen()
    assert not any(seen.again("", "", f"Town {n}") for n in range(20_000))
    assert all(seen.again("", "", f"The town {n}!") for n in range(20_000))
    assert not seen.again("", "", "Town 20000")


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("towns")
    lines = [f"Town {n}\tIt has a church with {n} bells.\n" for n in range(200)]
    make("geography", [raw_file(folder, "a.tsv", "".join(lines))], folder)
    return Index.load(folder, "geography")


def test_the_best_passage_is_found_and_ties_keep_the_order_of_the_base(towns: Index) -> None:
    (best, score), *_ = towns.search(tokens("Which town has 77 bells?"), 3)
    assert towns.passage(best).text == "It has a church with 77 bells."
    assert score > 0
    assert [number for number, _ in towns.search(["church"], 5)] == [0, 1, 2, 3, 4]
    assert towns.search(["unknown"], 5) == []
    assert towns.search([], 5) == []
