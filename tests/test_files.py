"""Files that settings name: odd ones are errors in words, and each manifest is read once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime import Settings, SetupError
from runtime.common.files import read_bytes, read_json
from runtime.common.hashing import sha256
from runtime.files.manifest import FILE_NAME, Entry, Manifest, ModelFiles
from runtime.files.routes import plan_routes
from runtime.retrieval.files import KnowledgeError, gate_path
from runtime.retrieval.gate import Gate
from tests.conftest import small_settings


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A pipe that nobody writes to: opening it as a file would wait for ever."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_what_is_not_a_regular_file_is_refused_without_waiting(pipe: Path) -> None:
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            read_bytes(path)
    with pytest.raises(OSError, match="No such file"):
        read_bytes(pipe.with_name("none"))
    with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
        read_bytes(pipe.parent)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 200_000, b'{"a":' * 200_000])
def test_what_is_not_json_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "a.json")


def test_a_pipe_where_a_setting_names_a_file_is_named(pipe: Path) -> None:
    with pytest.raises(SetupError, match=r"^SUBJECTS_FILE=.*pipe: .*not a regular file"):
        Settings.load(subjects_file=pipe)
    with pytest.raises(SetupError, match=r"^MODEL_NAME=.*m\.gguf: not a file"):
        plan_routes(small_settings(model_name=str(pipe.rename(pipe.with_name("m.gguf")))))


def test_a_name_that_begins_with_an_unknown_user_is_a_name(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"^MODEL_NAME=~nobody-here/m\.gguf: no such file"):
        plan_routes(small_settings(model_name="~nobody-here/m.gguf", models_dir=tmp_path))


def test_a_pipe_where_an_adapter_should_be_is_named(pipe: Path, demo_model: Path) -> None:
    with pytest.raises(SetupError, match=r"^PEFT_ADAPTER_HISTORY=.*pipe: not a file"):
        plan_routes(small_settings(peft_adapter_history=pipe))


def test_a_pipe_where_a_folder_has_a_file_of_ours_is_named(tmp_path: Path, pipe: Path) -> None:
    pipe.rename(tmp_path / FILE_NAME)
    with pytest.raises(SetupError, match=r"manifest\.json: not a manifest .*not a regular file"):
        Manifest.load(tmp_path)
    os.mkfifo(gate_path(tmp_path, "history"))
    with pytest.raises(KnowledgeError, match=r"gate\.json: .*not a regular file"):
        Gate.load(tmp_path, "history", "")


@pytest.mark.parametrize("content", ["[" * 200_000, '{"files":' * 200_000, "null", "3"])
def test_a_manifest_that_is_no_manifest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(SetupError, match=r"manifest\.json: not a manifest") as error:
        Manifest.load(tmp_path)
    assert len(str(error.value)) < 1000


def listed(path: Path) -> Entry:
    """Add a file to its folder's manifest."""
    entry = Entry(
        path=path.name,
        role="base",
        base=path.stem,
        quantization="F16",
        size=path.stat().st_size,
        sha256=sha256(path),
        inputs="",
        made_with={},
    )
    Manifest.add(path.parent, entry)
    return entry


def test_a_file_is_known_by_its_manifest_only_once_it_was_verified(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"one")
    entry = listed(path)
    files = ModelFiles()
    assert files.identity(path) != entry.sha256
    files.verify(tmp_path, [entry])
    assert files.identity(path) == entry.sha256
    path.write_bytes(b"two")
    assert ModelFiles().identity(path) != entry.sha256


def test_a_load_reads_each_manifest_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "loras").mkdir()
    (tmp_path / "models" / "tiny.gguf").write_bytes(b"GGUF")
    listed(tmp_path / "models" / "tiny.gguf")
    for subject in ("history", "chinese"):
        (tmp_path / "loras" / f"tiny-lora-{subject}.gguf").write_bytes(b"GGUF")
    read = []
    load = Manifest.load.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Manifest, "load", classmethod(lambda cls, at: read.append(at) or load(cls, at))
    )
    settings = small_settings(
        model_name="me/tiny",
        use_4bit=False,
        models_dir=tmp_path / "models",
        adapters_base_dir=tmp_path / "loras",
    )
    files = ModelFiles()
    routes = plan_routes(settings, files)
    assert routes["history"].adapter == tmp_path / "loras" / "tiny-lora-history.gguf"
    for route in routes.values():
        files.identity(route.model)
    assert sorted(read) == [tmp_path / "loras", tmp_path / "models"]
