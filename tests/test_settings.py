"""Every setting has its name and default, and a wrong value is explained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from runtime import Settings, SetupError
from runtime.engine import SamplingParams
from runtime.engine.sampling import penalize, sample
from runtime.fields import Setting
from runtime.settings import PROJECT_DIR, all_settings

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


# Defaults that answer better or faster than the contest's: docs/settings.md.
OWN_DEFAULTS = {"MIN_NEW_TOKENS": 1, "TEMPERATURE": 0.0}


def test_contest_settings_and_defaults() -> None:
    settings = Settings.load()
    for name, default in (CONTEST_DEFAULTS | OWN_DEFAULTS).items():
        assert settings.value_of(name) == default, name
    theirs = {setting.name for setting in all_settings() if setting.contest is not None}
    assert theirs == {*CONTEST_DEFAULTS, "RAG_KNOWLEDGE_BASE_DIR", "RAG_TOP_K"}


def test_the_contests_defaults_are_one_line_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = (PROJECT_DIR / "docs" / "settings.md").read_text(encoding="utf-8")
    own = {row.name: row for row in all_settings() if row.contest not in (None, row.default)}
    assert own.keys() == OWN_DEFAULTS.keys()
    line = " ".join(f"{name}={row.contest}" for name, row in sorted(own.items(), reverse=True))
    assert f"    {line} python -m runtime" in page
    for name, row in own.items():
        monkeypatch.setenv(name, str(row.contest))
    settings = Settings.load()
    for name, default in CONTEST_DEFAULTS.items():
        assert settings.value_of(name) == default, name


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("BATCH_SIZE", "8", 8),
        ("USE_4BIT", "0", False),
        ("DEVICE_MAP", "cuda:0", "cuda:0"),
        ("TEMPERATURE", "", 0.0),
        ("PEFT_ADAPTER_CHINESE", "a.gguf", Path("a.gguf")),
        ("RAG_ENABLED_SUBJECTS", '{"geography": true}', {"geography": True}),
        ("STOP", '["\\n\\n", "END"]', ("\n\n", "END")),
    ],
)
def test_settings_are_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: object
) -> None:
    monkeypatch.setenv(name, value)
    assert Settings.load().value_of(name) == expected


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("BATCH_SIZE", "0", "1 to 240"),
        ("BATCH_SIZE", "many", "1 to 240"),
        ("USE_4BIT", "maybe", "0 or 1"),
        ("DEVICE_MAP", "gpu", "auto, cpu, cuda or cuda:N"),
        ("MAX_NEW_TOKENS", "-1", "1 to 32768"),
        ("MAX_INPUT_TOKENS", "1.5", "16 to 131072"),
        ("TEMPERATURE", "nan", "0, or 0.000001 to 10"),
        ("TOP_P", "1.1", "0.000001 to 1"),
        ("TOP_K", "-3", "0 to 1000000"),
        ("RAG_ENABLED_SUBJECTS", "geography", "a JSON dict"),
        ("OFFLINE_GUARD", "yes", "on, process or off"),
        ("ALGEBRA_TOOL", "program", "off or exact. (program is gone: it got fewer"),
    ],
)
def test_a_wrong_value_names_the_setting_the_value_and_what_is_allowed(
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEED", "1" + "0" * 5000),
        ("SEED", "9223372036854775808"),
        ("SEED", 10**5000),
        ("SEED", -(10**5000)),
        ("TOP_K", 10**5000),
        ("BATCH_SIZE", 10**5000),
        ("REPETITION_PENALTY", "1e-320"),
        ("REPETITION_PENALTY", "0.009"),
        ("TEMPERATURE", "1e-320"),
        ("TEMPERATURE", "1e-7"),
        ("TOP_P", "1e-320"),
        ("TOP_P_CAP", "1e-320"),
        *(
            (setting, value)
            for setting in ("TOP_P", "TOP_P_CAP", "MAX_TOKENS_MULTIPLIER")
            for value in ("nan", "inf", "-inf", "1e400")
        ),
        ("REPETITION_PENALTY", "nan"),
        ("DEVICE_MAP", "cuda:99999999999999999999"),
        ("DEVICE_MAP", "cuda:\u0663"),
        ("MODEL_NAME", "a\0b"),
        ("MODEL_NAME", "a" * 10**6),
        ("MODEL_NAME", "a" * 256 + ".gguf"),
        ("MODELS_DIR", "a\0b"),
        ("PEFT_ADAPTER_HISTORY", "loras/" + "é" * 128),
        ("ANSWER_CACHE", "a" * 256),
        ("MODELS_DIR", Path("a\0b")),
        ("HF_CACHE_DIR", "a" * 10**6),
        ("PEFT_ADAPTER_PATH", "\ud800"),
        ("PEFT_ADAPTER_HISTORY", "a\0b"),
        ("STOP", "[" * 100_000),
        ("STOP", "1" * 5000),
        ("STOP", "[" + "1" * 5000 + "]"),
        ("STOP", json.dumps(["x" * 1001])),
        ("STOP", json.dumps(["x"] * 101)),
        ("RAG_ENABLED_SUBJECTS", '{"a":' * 100_000),
        ("RAG_ENABLED_SUBJECTS", '{"a": 1e999}'),
        ("RAG_ENABLED_SUBJECTS", {str(n): True for n in range(1001)}),
        ("RAG_ENABLED_SUBJECTS", {"a" * 10**6: "perhaps"}),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, str) else type(value).__name__,
)
def test_a_value_that_would_fail_later_fails_at_its_setting_in_a_few_words(
    name: str, value: object
) -> None:
    with pytest.raises(SetupError, match=rf"^{name}.* is not allowed") as error:
        Settings.load(**{name.lower(): value})
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEED", 2**63 - 1),
        ("TEMPERATURE", 0.0),
        ("TEMPERATURE", 1e-6),
        ("TOP_P", 1e-6),
        ("REPETITION_PENALTY", 0.01),
        ("TOP_K", 1_000_000),
    ],
)
def test_values_at_the_edges_pick_tokens_without_a_number_getting_lost(
    name: str, value: float
) -> None:
    settings = Settings.load(**{name.lower(): value})
    params = SamplingParams(settings.temperature, settings.top_k, settings.top_p)
    logits = np.array([[1000.0, -1000.0, 999.0, 0.0]], np.float32)
    penalize(logits[0], np.array([0]), settings.repetition_penalty)
    assert np.isfinite(logits).all()
    assert sample(logits, params, np.array([0.5])).tolist() == [0]


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOP_K", "x")
    monkeypatch.setenv("SEED", "y")
    with pytest.raises(SetupError, match=r"(?s)TOP_K.*SEED"):
        Settings.load()


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(SetupError, match="BATCHSIZE: there is no such setting"):
        Settings.load(batchsize=3)


def test_the_multiplier_stretches_the_longest_answer() -> None:
    assert Settings.load(max_new_tokens=10, max_tokens_multiplier=1.25).longest_answer == 13


def test_a_subject_may_need_longer_answers() -> None:
    settings = Settings.load(max_new_tokens=100, max_tokens_multiplier=0.5)
    assert settings.longest_answer_of("history") == settings.longest_answer == 50
    assert settings.longest_answer_of("algebra") == 150


def test_a_setting_of_an_earlier_version_is_named_with_what_replaces_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLASH_ATTENTION", "off")
    Settings.load()
    assert "FLASH_ATTENTION is not a setting any more: llama.cpp decides" in caplog.text
    with pytest.raises(SetupError, match="ANSWER_CACHE_MB: there is no such setting any more: "):
        Settings.load(answer_cache_mb=5)


def test_adapters_are_given_by_setting_or_by_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_ADAPTER_HISTORY", "environment.gguf")
    monkeypatch.setenv("PEFT_ADAPTER_CHINESE", "environment.gguf")
    monkeypatch.setenv("PEFT_ADAPTER_ALGEBRA", "environment.gguf")
    given = {"history": "by-subject.gguf", "algebra": "by-subject.gguf"}
    settings = Settings.load(peft_adapters=given, peft_adapter_algebra="by-setting.gguf")
    assert settings.peft_adapters == {
        "history": Path("by-subject.gguf"),
        "chinese": Path("environment.gguf"),
        "algebra": Path("by-setting.gguf"),
    }
    assert Settings.load(**settings.model_dump()) == settings
    assert Settings.load(peft_adapter_history=None).value_of("PEFT_ADAPTER_HISTORY") is None
    with pytest.raises(SetupError, match="peft_adapters: physics: no such subject in"):
        Settings.load(peft_adapters={"physics": "a.gguf"})


def test_variables_called_as_fields_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Settings.load()
    monkeypatch.setenv("SUBJECTS", "history")
    monkeypatch.setenv("PEFT_ADAPTERS", "{}")
    assert Settings.load() == plain


def test_the_docs_have_the_settings() -> None:
    page = (PROJECT_DIR / "docs" / "settings.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `.+\|$", page, re.MULTILINE)
    assert sorted(shown) == sorted(map(markdown_row, all_settings()))


def markdown_row(setting: Setting) -> str:
    """A setting as docs/settings.md has it."""
    default = f"`{setting.default}`" if setting.default else "not set"
    contest = "" if setting.contest is None else "yes"
    if setting.contest not in (None, setting.default):
        contest = f"`{setting.contest}`"
    return f"| `{setting.name}` | {default} | {contest} | {setting.allowed} | {setting.meaning} |"
