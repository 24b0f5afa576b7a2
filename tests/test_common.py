"""Intervals, fingerprints and figures that several packages share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.common import figures
from runtime.common.hashing import fingerprint, sha256
from runtime.common.intervals import bootstrap, sign_test


@pytest.mark.parametrize(("right", "n"), [(50, 100), (300, 400), (7, 1000)])
def test_intervals_hold_the_share_in_about_95_of_100_samples(right: int, n: int) -> None:
    drawn = np.random.default_rng(1).binomial(n, right / n, 400)
    held = [low <= right / n <= high for low, high in (bootstrap(int(k), n) for k in drawn)]
    assert 0.88 <= np.mean(held) <= 0.99


def test_the_bootstrap_is_repeatable() -> None:
    assert bootstrap(70, 100) == bootstrap(70, 100) == (0.61, 0.79)


def test_the_sign_test_counts_throws_of_a_coin() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(3, 0) == 0.125
    assert sign_test(3, 1) == pytest.approx(5 / 16)
    assert sign_test(22, 2) < 0.001


def test_fingerprints(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "a") == known
    first, second = {"a": 1, "b": [None, 2.5]}, json.loads('{"b": [null, 2.5], "a": 1}')
    assert fingerprint(first) == fingerprint(second) != fingerprint({**first, "a": 2})


@pytest.mark.parametrize(
    ("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a", b"\x89PNG")]
)
def test_a_figure_is_whole_and_the_same_each_time(tmp_path: Path, name: str, begins: bytes) -> None:
    made = []
    for folder in (tmp_path / "1", tmp_path / "2"):
        folder.mkdir()
        with figures.axes(folder / name) as axes:
            axes.plot([1, 2, 3], color=figures.MAIN)
        made.append((folder / name).read_bytes())
    assert made[0].startswith(begins)
    assert made[0] == made[1]


def test_a_figure_that_is_not_finished_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("old")

    def fail() -> None:
        with figures.axes(tmp_path / "a.png"):
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.png", "old")]
