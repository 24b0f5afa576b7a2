"""Random edits of JSON files are exported or refused, without a traceback."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from convert.errors import ConvertError
from convert.sources import open_source
from convert.writing import write_model
from tests.checkpoints import (
    TOLERANCE,
    Base,
    error,
    merged_logits,
    peft_logits,
    save_checkpoint,
    save_lora,
    tiny_tokenizer,
)

VALUES = [
    *("x", "", -1, 0, 1.5, True, None, 10**20, 2**40, math.nan, math.inf),
    *([], [1, 2], ["a"], [[]], {"a": 1}, {"rope_type": "yarn"}, {"full_attention": 1}),
]
FILES = ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All containers in a JSON value with their keys; of a list only the first two elements."""
    keys = list(value) if isinstance(value, dict) else range(min(2, len(value)))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen3", "gemma3", "ministral3"])
def test_an_edit_is_exported_or_refused(tmp_path: Path, kind: str) -> None:
    folder = save_checkpoint(tmp_path / "c", kind, tiny_tokenizer())
    random_ = random.Random(kind)
    outcomes = set()
    for _ in range(25):
        path = folder / random_.choices(FILES, [6, 1, 2, 2])[0]
        whole = path.read_text("utf-8") if path.exists() else "{}"
        edited = json.loads(whole)
        found = list(places(edited)) or [(edited, "eos_token_id")]
        container, key = random_.choice(found)
        container[key] = random_.choice(VALUES)
        path.write_text(json.dumps(edited), "utf-8")
        try:
            write_model(open_source(folder), tmp_path / "out.gguf", "F32")
            outcomes.add("exported")
        except ConvertError:
            outcomes.add("refused")
        path.write_text(whole, "utf-8")
    assert outcomes == {"exported", "refused"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_an_edit_of_an_adapter_says_what_peft_says_or_is_refused(
    tmp_path: Path, bases: dict[str, Base], seed: int
) -> None:
    base, lora = bases["qwen3"], tmp_path / "lora"
    patterns = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"up_proj": 3}}
    save_lora(lora, base.folder, target_modules=["q_proj", "up_proj", "v_proj"], **patterns)
    path = lora / "adapter_config.json"
    whole = path.read_text("utf-8")
    random_ = random.Random(seed)
    outcomes = set()
    for _ in range(40):
        edited = json.loads(whole)
        container, key = random_.choice(list(places(edited)))
        container[key] = value = random_.choice([*VALUES, 10**400, "[", "q_proj", [1.5], "1"])
        path.write_text(json.dumps(edited), "utf-8")
        try:
            found = merged_logits(base, lora)
        except ConvertError as problem:
            outcomes.add(f"refused by name: {str(lora) in str(problem)}")
            continue
        outcomes.add("exported")
        try:
            expected = peft_logits(base.folder, lora)
        except Exception:  # peft is stricter with what changes nothing here
            continue
        assert error(found, expected) < TOLERANCE, (key, value)
    assert outcomes == {"exported", "refused by name: True"}
