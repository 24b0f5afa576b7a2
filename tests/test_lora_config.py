"""Settings in adapter_config.json that this version does not know are remarked on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import peft

from convert.base import Source
from convert.lora_config import LoraConfig
from convert.remarks import remarks

BASE = cast(Source, SimpleNamespace(name="base", chat_template=None, added_tokens=set()))


def config(**values: Any) -> LoraConfig:
    return LoraConfig(Path("adapter_config.json"), values, 8, 16.0)


def test_all_settings_of_peft_are_known() -> None:
    names = [field.name for field in dataclasses.fields(peft.LoraConfig)]
    assert config(**dict.fromkeys(names, "x")).unknown_keys() == []


def test_a_setting_of_a_later_peft_is_remarked_on(tmp_path: Path) -> None:
    assert list(remarks(tmp_path, config(r=8, use_something_new=None), BASE)) == []
    (remark,) = remarks(tmp_path, config(r=8, use_something_new=True), BASE)
    assert remark.startswith("adapter_config.json: ignored use_something_new: check the result")
