"""Knowledge bases, indexes and gates that cannot be used are refused when they are loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import SetupError, loadPipeline
from runtime.retrieval import Index, KnowledgeError, Retrieval
from runtime.retrieval.files import base_path, gate_path, index_path
from runtime.retrieval.search import find
from tests.conftest import small_settings
from tests.lands import ASKED

pytest_plugins = ["tests.lands"]


def _damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "altered":
        path.write_bytes(path.read_bytes().replace(b"Lutz", b"Linz"))
    elif how == "text":
        path.write_text("not what it should be")


@pytest.mark.parametrize(
    ("file", "how", "message"),
    [
        (base_path, "missing", r"geography_knowledge_preprocessed\.json: missing; make both again"),
        (index_path, "missing", r"geography_knowledge_index\.npz: missing; make both again"),
        (base_path, "half", r"preprocessed\.json: is not the base that .*index\.npz was made for"),
        (base_path, "altered", r"preprocessed\.json: is not the base .* its SHA-256 differs"),
        (index_path, "half", r"index\.npz: damaged or not an index"),
        (index_path, "text", r"index\.npz: damaged or not an index"),
    ],
)
def test_a_base_that_cannot_be_used_is_refused_by_name(
    folder: Path, file: Any, how: str, message: str
) -> None:
    _damage(file(folder, "geography"), how)
    with pytest.raises(KnowledgeError, match=message):
        Index.load(folder, "geography")
    settings = small_settings(
        rag_knowledge_base_dir=folder, rag_enabled_subjects={"geography": True}
    )
    with pytest.raises(SetupError, match=message):
        loadPipeline(settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, r"index\.npz: is of version 1, not 2; make both again"),
        ({"subject": "history"}, r"index\.npz: was made for history; make both again"),
    ],
)
def test_an_index_of_another_version_or_subject_is_refused(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    path = index_path(folder, "geography")
    with np.load(path) as stored:
        arrays = dict(stored)
    header = json.loads(arrays["header"].tobytes()) | change
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(KnowledgeError, match=message):
        Index.load(folder, "geography")


def _rewritten(folder: Path, name: str, change: Any) -> None:
    """Change an array of the index; its checksums are right afterwards."""
    path = index_path(folder, "geography")
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays[name] = change(arrays[name].copy())
    np.savez(path, **arrays)


def _with(place: int, value: Any) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return change


def _text(text: bytes) -> Any:
    return lambda array: np.frombuffer(text, np.uint8)


@pytest.mark.parametrize(
    ("array", "change", "problem"),
    [
        ("header", _text(b"{"), "its header"),
        ("header", _text(b"[]"), "its header"),
        ("header", _text(b"\xff"), "its header"),
        ("header", _text(b"[" * 100_000), "its header"),
        ("vocabulary", _text(b"\xff"), "its vocabulary is not UTF-8"),
        ("vocabulary", _text(b"one"), "its vocabulary has another length"),
        ("indptr", lambda array: array[:-1], "its vocabulary has another length"),
        ("indptr", _with(1, -1), "its postings are not in order"),
        ("indptr", _with(-1, 10**9), "its postings are not in order"),
        ("indices", _with(0, 10**6), "passages that are not in the base"),
        ("indices", _with(0, -1), "passages that are not in the base"),
        ("indices", lambda array: array.astype(np.int64), "its indices is int64"),
        ("data", _with(0, np.nan), "its scores are not numbers"),
        ("data", lambda array: array[:-1], "its scores are not numbers, or not one for each"),
        ("data", lambda array: array.reshape(-1, 1), "its data is float32"),
        ("offsets", lambda array: array[:-1], "its header counts"),
        ("offsets", lambda array: array[:0], "it has no offsets"),
        ("offsets", _with(0, -5), "its offsets are not places in the base"),
        ("offsets", _with(-1, 10**9), "its offsets are not places in the base"),
        ("offsets", lambda array: array - 5, "not beginnings of lines of the base"),
    ],
)
def test_an_index_that_does_not_fit_its_base_is_refused_when_it_is_loaded(
    folder: Path, array: str, change: Any, problem: str
) -> None:
    _rewritten(folder, array, change)
    with pytest.raises(
        KnowledgeError, match=rf"index\.npz: damaged .*{problem}.*; make both again"
    ):
        Retrieval.load(folder, {"geography": "always"}, 3)


def test_every_damaged_index_is_refused_by_name(folder: Path) -> None:
    """Not one by a traceback, and none is used."""
    path = index_path(folder, "geography")
    whole = path.read_bytes()
    random = np.random.default_rng(5)
    for _ in range(300):
        damaged = bytearray(whole)
        start = int(random.integers(len(whole)))
        noise = random.bytes(int(random.integers(1, 40)))
        damaged[start : start + len(noise)] = noise
        path.write_bytes(damaged)
        said = ""
        try:
            index = Index.load(folder, "geography")
        except KnowledgeError as error:
            said = str(error)
        if said:
            assert str(path) in said or str(base_path(folder, "geography")) in said
        else:  # what does not count, such as a date in the archive
            assert find(index, ASKED, 3).passages[0].startswith("Zubrowka / Government")


def test_a_base_that_may_not_be_read_is_refused_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("runtime.retrieval.index.sha256", refused)
    with pytest.raises(KnowledgeError, match=r"preprocessed\.json: cannot be read \(Permission"):
        Index.load(folder, "geography")


@pytest.mark.parametrize("file", [base_path, index_path, gate_path])
def test_a_pipe_in_place_of_a_file_is_refused(folder: Path, file: Any) -> None:
    path = file(folder, "geography")
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(KnowledgeError, match=rf"{path.name}: .*not a regular file"):
        Retrieval.load(folder, {"geography": True}, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{",
            r"geography_knowledge_gate\.json: not a gate \(Invalid JSON: EOF [^;\n]*\); calibrate",
        ),
        ('{"format": 2}', r"not a gate \(format: Input should be 1\); calibrate again"),
        ('{"subject": "geography", "base_sha256": "", "mode": "off", "x": 1}', "not a gate"),
        (
            '{"subject": "geography", "base_sha256": "", "mode": "threshold", "feature": "luck"}',
            "feature must be one of score, ",
        ),
        (
            '{"subject": "geography", "base_sha256": "", "mode": "threshold", "feature": "score",'
            ' "at_least": NaN}',
            "at_least",
        ),
        ("[" * 100_000, "not a gate"),
        ('{"subject": "geography", "base_sha256": "", "mode": "off"}', "on another base"),
    ],
)
def test_a_gate_that_does_not_fit_is_refused(folder: Path, text: str, message: str) -> None:
    gate_path(folder, "geography").write_text(text)
    with pytest.raises(KnowledgeError, match=message):
        Retrieval.load(folder, {"geography": True}, 3)
