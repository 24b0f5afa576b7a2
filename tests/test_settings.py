"""Every knob has its contest name and default, and a wrong value is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import Settings, SetupError
from runtime.settings import PROJECT_DIR, knobs, markdown_table

CONTEST_DEFAULTS = {
    "MODEL_NAME": "Qwen/Qwen3-1.7B",
    "HF_CACHE_DIR": Path("/app/models"),
    "USE_4BIT": True,
    "DEVICE_MAP": "auto",
    "BATCH_SIZE": 48,
    "MAX_NEW_TOKENS": 128,
    "MIN_NEW_TOKENS": 20,
    "MAX_INPUT_TOKENS": 1024,
    "MAX_TOKENS_MULTIPLIER": 1.0,
    "TEMPERATURE": 0.2,
    "TOP_P": 0.9,
    "TOP_P_CAP": 0.9,
    "TOP_K": 20,
    "REPETITION_PENALTY": 1.0,
    "PEFT_ADAPTER_PATH": None,
    "PEFT_ADAPTER_ALGEBRA": None,
    "PEFT_ADAPTER_GEOGRAPHY": None,
    "PEFT_ADAPTER_HISTORY": None,
    "PEFT_ADAPTER_CHINESE": None,
    "PEFT_ADAPTER_GENERAL": None,
    "ADAPTERS_BASE_DIR": None,
    "RAG_ENABLED_SUBJECTS": {},
}


def test_contest_knobs_and_defaults() -> None:
    settings = Settings.load()
    for name, default in CONTEST_DEFAULTS.items():
        assert getattr(settings, name.lower()) == default, name
    assert {"RAG_KNOWLEDGE_BASE_DIR", "RAG_TOP_K"} <= {knob.name for knob in knobs()}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("BATCH_SIZE", "8", 8),
        ("USE_4BIT", "0", False),
        ("DEVICE_MAP", "cuda:0", "cuda:0"),
        ("TEMPERATURE", "", 0.2),
        ("PEFT_ADAPTER_CHINESE", "a.gguf", Path("a.gguf")),
        ("RAG_ENABLED_SUBJECTS", '{"geography": true}', {"geography": True}),
        ("STOP", '["\\n\\n", "END"]', ("\n\n", "END")),
    ],
)
def test_knobs_are_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: object
) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(Settings.load(), name.lower()) == expected


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("BATCH_SIZE", "0", "1 to 240"),
        ("BATCH_SIZE", "many", "1 to 240"),
        ("USE_4BIT", "maybe", "0 or 1"),
        ("DEVICE_MAP", "gpu", "auto, cpu, cuda or cuda:N"),
        ("MAX_NEW_TOKENS", "-1", "1 to 32768"),
        ("MAX_INPUT_TOKENS", "1.5", "16 to 131072"),
        ("TEMPERATURE", "nan", "0 to 10"),
        ("TOP_P", "1.1", "over 0, at most 1"),
        ("TOP_K", "-3", "0 or more"),
        ("RAG_ENABLED_SUBJECTS", "geography", "a JSON dict"),
        ("OFFLINE_GUARD", "yes", "on, process or off"),
    ],
)
def test_a_wrong_value_names_the_knob_the_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SetupError) as error:
        Settings.load()
    assert f"{name}='{value}' is not allowed: {allowed}" in str(error.value)


@pytest.mark.parametrize("text", ['["END", ""]', r'["END", "\ud800"]'])
def test_an_empty_or_broken_stop_string_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("STOP", text)
    with pytest.raises(SetupError, match=r"STOP\[1\]=.* is not allowed: a JSON list of texts"):
        Settings.load()


def test_all_wrong_knobs_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOP_K", "x")
    monkeypatch.setenv("SEED", "y")
    with pytest.raises(SetupError, match=r"(?s)TOP_K.*SEED"):
        Settings.load()


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(SetupError, match="BATCHSIZE: there is no such knob"):
        Settings.load(batchsize=3)


def test_the_multiplier_stretches_the_longest_answer() -> None:
    assert Settings.load(max_new_tokens=10, max_tokens_multiplier=1.25).longest_answer == 13


def test_the_readme_has_the_table_of_knobs() -> None:
    assert markdown_table() in (PROJECT_DIR / "README.md").read_text(encoding="utf-8")
