"""Which file serves a subject."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from runtime import SetupError, loadPipeline
from runtime.common.hashing import sha256
from runtime.files.routes import plan_routes
from tests.exporting import export, routes, settings

pytest_plugins = ["tests.exporting"]


def test_what_was_exported_last_serves_a_subject(work: Path) -> None:
    history = ("--lora", work / "loras" / "tiny-chat-lora-history", "--subject", "history")
    export(work)
    export(work, *history)
    assert routes(work)["history"] == ("tiny-chat-history-Q4_K_M.gguf", None)
    export(work, *history, "--mode", "adapter")
    assert routes(work)["history"] == ("tiny-chat-Q4_K_M.gguf", "tiny-chat-lora-history.gguf")
    assert routes(work, model_name="Me/TINY-chat")["history"][1] == "tiny-chat-lora-history.gguf"


def test_merged_files_and_adapters_and_settings_side_by_side(work: Path) -> None:
    history, general = (work / "loras" / f"tiny-chat-lora-{s}" for s in ("history", "general"))
    export(work, "--lora", history, "--subject", "history")
    export(work, "--lora", general, "--subject", "geography", "--mode", "adapter")
    base, adapter = "tiny-chat-Q4_K_M.gguf", "tiny-chat-lora-geography.gguf"
    served = routes(work)
    assert served == {
        "algebra": (base, None),
        "geography": (base, adapter),
        "history": ("tiny-chat-history-Q4_K_M.gguf", None),
        "chinese": (base, None),
        "general": (base, None),
    }
    path = work / "models" / adapter
    assert routes(work, peft_adapter_history=path)["history"] == (base, adapter)
    common = routes(work, peft_adapter_path=path)
    assert common["history"] == ("tiny-chat-history-Q4_K_M.gguf", None)
    assert common["chinese"] == (base, adapter)


def test_an_adapter_for_a_subject_that_is_not_declared_is_told(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export(work)
    shutil.copytree(work / "loras" / "tiny-chat-lora-history", work / "loras" / "x-lora-maths")
    (work / "loras" / "tiny-chat-lora-law.gguf").touch()
    plan_routes(settings(work, adapters_base_dir=work / "loras"))
    assert "loras: adapters for law, maths are ignored: " in caplog.text


def test_other_types_are_served_where_the_usual_one_is_not_there(work: Path) -> None:
    history = ("--lora", work / "loras" / "tiny-chat-lora-history", "--subject", "history")
    export(work, "--type", "Q8_0")
    export(work, *history, "--type", "F32")
    assert routes(work)["history"] == ("tiny-chat-Q8_0.gguf", None)
    export(work, *history, "--type", "Q6_K")
    assert routes(work)["history"] == ("tiny-chat-history-Q6_K.gguf", None)
    export(work, *history, "--type", "Q4_K_M")
    assert routes(work)["history"] == ("tiny-chat-history-Q4_K_M.gguf", None)
    export(work, "--type", "F16")
    floats = routes(work, use_4bit=False)
    assert floats["history"] == ("tiny-chat-history-F32.gguf", None)
    assert floats["general"] == ("tiny-chat-F16.gguf", None)


def test_the_adapters_folder_comes_before_the_adapter_for_the_rest(work: Path) -> None:
    export(work)
    folder = work / "adapters"
    folder.mkdir()
    for name in ("x-lora-history.gguf", "common.gguf"):
        (folder / name).touch()
    served = routes(work, adapters_base_dir=folder, peft_adapter_path=folder / "common.gguf")
    assert served["history"][1] == "x-lora-history.gguf"
    assert served["chinese"][1] == "common.gguf"


def test_a_peft_folder_is_converted_once_and_kept(work: Path) -> None:
    export(work)
    first = plan_routes(settings(work, adapters_base_dir=work / "loras"))["history"].adapter
    assert first is not None
    assert first.parent.parent == work / "models"
    made = first.stat().st_mtime_ns
    by_setting = settings(work, peft_adapter_history=work / "loras" / "tiny-chat-lora-history")
    assert plan_routes(by_setting)["history"].adapter == first
    assert first.stat().st_mtime_ns == made
    with loadPipeline(by_setting) as pipeline:
        (answer,) = pipeline([{"questionID": 1, "subject": "history", "question": "Why?"}])
    assert answer["answer"]


def test_a_kept_conversion_needs_no_converter_until_something_changes(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(work)
    lora = work / "loras" / "tiny-chat-lora-history"
    by_setting = settings(work, peft_adapter_history=lora)
    first = plan_routes(by_setting)["history"].adapter
    assert first is not None
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", shutil.which("false"))
        assert plan_routes(by_setting)["history"].adapter == first
        config = (lora / "adapter_config.json").read_bytes()
        (lora / "adapter_config.json").write_bytes(config + b"\n")
        with pytest.raises(SetupError, match="could not be converted"):
            plan_routes(by_setting)
        (lora / "adapter_config.json").write_bytes(config)
        base = plan_routes(by_setting)["history"].model
        before = base.stat().st_mtime_ns
        os.utime(base, ns=(before, before + 1))
        with pytest.raises(SetupError, match="could not be converted"):
            plan_routes(by_setting)
        os.utime(base, ns=(before, before))
        kept = first.read_bytes()
        first.write_bytes(kept[:-1] + b"?")
        with pytest.raises(SetupError, match="could not be converted"):
            plan_routes(by_setting)
    assert plan_routes(by_setting)["history"].adapter == first
    assert first.read_bytes() == kept


def test_an_adapter_is_exported_without_reading_the_weights_of_its_base(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr("convert.exporter.sha256", lambda path: hashed.append(path) or sha256(path))
    history = ("--lora", work / "loras" / "tiny-chat-lora-history", "--subject", "history")
    export(work, *history, "--mode", "adapter", "--no-base")
    assert hashed
    assert not [path for path in hashed if path.name == "model.safetensors"]


def test_a_peft_folder_that_cannot_be_converted_names_the_command(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(work)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(SetupError) as error:
        plan_routes(settings(work, peft_adapter_path=work / "loras" / "tiny-chat-lora-history"))
    assert "pip install 'subject-lora-serve[convert]'" in str(error.value)
    assert "python -m convert.export_gguf --base BASE --lora" in str(error.value)


def test_the_memory_of_all_files_is_known_before_they_are_loaded(
    work: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    export(work, "--loras", work / "loras")
    with caplog.at_level("INFO"), loadPipeline(settings(work)):
        pass
    assert "2 model files need 0.0 GiB for their weights" in caplog.text

    class Little:
        available = 1000

    monkeypatch.setattr("psutil.virtual_memory", Little)
    with pytest.raises(SetupError, match="serve adapters on one base instead"):
        loadPipeline(settings(work))
