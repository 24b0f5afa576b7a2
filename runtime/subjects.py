"""Which subject a question belongs to."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

GENERAL = "general"
ALGEBRA = "algebra"  # whose exercises are computed exactly
SUBJECTS = (ALGEBRA, "geography", "history", "chinese", GENERAL)

# Names as people write them, normalized by `_normalize`.
_ALIASES: Mapping[str, str] = {
    **{subject: subject for subject in SUBJECTS},
    **dict.fromkeys(["math", "maths", "mathematics", "arithmetic", "数学", "代数"], "algebra"),
    **dict.fromkeys(["geo", "geographic", "地理"], "geography"),
    **dict.fromkeys(["hist", "historical", "历史", "歷史"], "history"),
    **dict.fromkeys(
        ["chineselanguage", "chineseliterature", "mandarin", "zh", "zhcn", "cn"]
        + ["中文", "汉语", "漢語", "语文", "語文", "国学"],
        "chinese",
    ),
    **dict.fromkeys(["generalknowledge", "other", "misc", "commonsense", "常识", "综合"], GENERAL),
}


def subject_of(name: str) -> str:
    """The subject that a name stands for; general if it is unknown or empty."""
    return _ALIASES.get(_normalize(name), GENERAL)


def is_known(name: str) -> bool:
    """Whether a name stands for a subject by itself."""
    return _normalize(name) in _ALIASES


def _normalize(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in folded if c.isalnum())
