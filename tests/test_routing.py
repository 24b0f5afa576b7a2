"""Which subject a name stands for."""

from __future__ import annotations

import pytest

from runtime.subjects import SUBJECTS, subject_of


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_is_matched_without_regard_to_case_and_space(subject: str) -> None:
    for name in (
        subject,
        subject.upper(),
        f"  {subject.title()}\n",
        f"{subject[:3]} {subject[3:]}",
    ):
        assert subject_of(name) == subject


@pytest.mark.parametrize(
    ("alias", "subject"),
    [
        ("Maths", "algebra"),
        ("mathematics", "algebra"),
        ("代数", "algebra"),
        ("Geo", "geography"),
        ("历史", "history"),
        ("中文", "chinese"),
        ("Ｃｈｉｎｅｓｅ", "chinese"),
        ("Chinese-Literature", "chinese"),
        ("general knowledge", "general"),
    ],
)
def test_aliases(alias: str, subject: str) -> None:
    assert subject_of(alias) == subject


@pytest.mark.parametrize("name", ["", " ", "astrology", "🌍", "null"])
def test_what_is_unknown_goes_to_general(name: str) -> None:
    assert subject_of(name) == "general"
