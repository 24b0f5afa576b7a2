"""The index of a knowledge base: its tokens, its scores, and what it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kb import indexing
from kb.indexing import TokenIds, write_index
from kb.making import make
from runtime.retrieval import Index
from runtime.retrieval.tokens import tokens
from tests.lands import raw_file


@pytest.fixture(scope="module")
def many() -> list[list[str]]:
    random = np.random.default_rng(1)
    words = [f"w{n}" for n in range(300)]
    return [list(random.choice(words, random.integers(3, 40))) for _ in range(400)]


def _portions(many: list[list[str]], folder: Path, portion: int) -> dict[str, np.ndarray]:
    vocabulary: dict[str, int] = {}
    ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in text] for text in many]
    np.concatenate([np.array(each, np.int32) for each in ids]).tofile(folder / "ids")
    ends = np.cumsum([len(each) for each in ids])
    offsets = np.arange(len(many) + 1)
    held = TokenIds(folder / "ids", ends)
    path = folder / "index.npz"
    write_index(path, "history", "0" * 64, list(vocabulary), held, offsets, portion)
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
    ],
)
def test_search_tokens(text: str, found: list[str]) -> None:
    assert tokens(text) == found


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
