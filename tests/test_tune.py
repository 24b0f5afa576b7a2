"""`python -m runtime.tune`, and how what it finds is served."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from runtime import SetupError, loadPipeline, tune
from runtime.files.manifest import ModelFiles
from runtime.settings import PROJECT_DIR, Settings
from runtime.setup import trials, tuning
from tests.conftest import small_settings
from tests.stopping import interrupt

FOUND = {"batch_size": 5, "num_threads": 1, "prefill_tokens": 64}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "some.gguf"
    path.write_bytes(b"GGUF")
    return path


def served(folder: Path, model: Path, **given: object) -> dict[str, object]:
    settings = tuning.tuned(Settings.load(models_dir=folder, **given), model, ModelFiles())
    return {name: getattr(settings, name) for name in tuning.TUNED}


def test_what_was_found_for_a_file_is_used_for_it(model: Path) -> None:
    tuning.keep(model.parent, model, FOUND, {}, ModelFiles())
    assert served(model.parent, model) == FOUND


def test_a_note_of_an_older_version_is_used(model: Path) -> None:
    note = tuning.keep(model.parent, model, FOUND, {}, ModelFiles())
    note.write_text(note.read_text("utf-8").replace('"settings"', '"knobs"'), "utf-8")
    assert served(model.parent, model) == FOUND


def test_what_changes_answers_is_not_chosen_for_its_speed(model: Path) -> None:
    """Not even where an older note has it."""
    tuning.keep(model.parent, model, {**FOUND, "kv_cache_type": "q8_0"}, {}, ModelFiles())
    assert (
        tuning.tuned(Settings.load(models_dir=model.parent), model, ModelFiles()).kv_cache_type
        == "f16"
    )


def test_a_setting_that_the_user_set_stays(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning.keep(model.parent, model, FOUND, {}, ModelFiles())
    monkeypatch.setenv("NUM_THREADS", "3")
    assert served(model.parent, model, batch_size=48) == FOUND | {
        "batch_size": 48,
        "num_threads": 3,
    }


def test_another_file_or_machine_is_served_with_the_defaults(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = served(model.parent, model)
    tuning.keep(model.parent, model, FOUND, {}, ModelFiles())
    other = model.with_name("other.gguf")
    other.write_bytes(b"GGUF")
    assert served(model.parent, other) == defaults
    monkeypatch.setattr(tuning, "machine", lambda: "another")
    assert served(model.parent, model) == defaults


def test_two_models_are_noted_beside_each_other(model: Path) -> None:
    other = model.with_name("other.gguf")
    other.write_bytes(b"GGUF")
    tuning.keep(model.parent, model, FOUND, {}, ModelFiles())
    tuning.keep(model.parent, other, {"batch_size": 7}, {}, ModelFiles())
    assert served(model.parent, model)["batch_size"] == 5
    assert served(model.parent, other)["batch_size"] == 7


@pytest.mark.parametrize("content", ["{", "[1]", "null", "[" * 200_000, '{"a":' * 200_000])
def test_a_damaged_note_is_not_used_and_said(
    model: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (model.parent / tuning.FILE_NAME).write_text(content)
    with caplog.at_level(logging.WARNING):
        assert served(model.parent, model)["batch_size"] == 48
    assert str(model.parent / tuning.FILE_NAME) in caplog.text
    tuning.keep(model.parent, model, FOUND, {}, ModelFiles())
    assert served(model.parent, model) == FOUND


@pytest.mark.parametrize(
    "entry",
    ["null", "3", "[]", '{"settings": null}', '{"knobs": null}', '{"settings": [1]}']
    + [f'{{"settings": {{"batch_size": {value}}}}}' for value in ("null", "[]", "1e400", "[[[")],
)
def test_a_damaged_entry_is_not_used_and_said(
    model: Path, entry: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tuning.keep(model.parent, model, FOUND, {}, ModelFiles())
    (key,) = json.loads(path.read_text())
    path.write_text(f'{{"{key}": {entry}}}')
    with caplog.at_level(logging.WARNING):
        assert served(model.parent, model)["batch_size"] == 48
    assert str(path) in caplog.text


def test_a_pipe_in_place_of_the_note_is_not_waited_for(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(model.parent / tuning.FILE_NAME)
    assert served(model.parent, model)["batch_size"] == 48
    assert "tuning.json cannot be read, so nothing in it is used: " in caplog.text
    with pytest.raises(SetupError, match=r"tuning\.json: cannot be written \(not a regular file"):
        tuning.keep(model.parent, model, FOUND, {}, ModelFiles())


@pytest.mark.parametrize("content", ["{", "null", "[" * 200_000, None])
def test_trials_go_on_without_a_note_that_is_damaged(
    model: Path, content: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is None:
        os.mkfifo(model.parent / trials.FILE_NAME)
    else:
        (model.parent / trials.FILE_NAME).write_text(content)
    monkeypatch.setattr(trials, "check_gguf", lambda path: None)
    monkeypatch.setattr(trials, "crash_reason", lambda model, adapters: "")
    trials.Trials(model.parent, ModelFiles()).refuse_crashing(model)


def test_a_value_that_is_not_allowed_is_not_used_and_said(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tuning.keep(model.parent, model, {"batch_size": -1}, {}, ModelFiles())
    assert served(model.parent, model)["batch_size"] == 48
    assert "runtime.tune again" in caplog.text


def test_the_least_that_is_near_the_fastest_is_chosen() -> None:
    speeds = {1: 10.0, 2: 50.0, 4: 99.0, 8: 100.0, 16: 80.0, 32: 300.0}
    chosen, measured = tune._choose(speeds, speeds.__getitem__)
    assert chosen == 32  # though 16 was slower than 8
    assert measured == speeds
    assert tune._choose([1, 2, 4, 8, 16], speeds.__getitem__)[0] == 4


def test_a_value_is_not_slow_because_the_machine_was_once() -> None:
    times: list[int] = []

    def speed(value: int) -> float:
        times.append(value)
        return 10.0 if times == [1, 2] else 100.0 * value

    assert tune._choose([1, 2], speed) == (2, {1: 100.0, 2: 200.0})


@pytest.mark.slow
def test_the_demo_is_tuned_and_then_served_so(
    shallow_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / shallow_model.name).symlink_to(shallow_model)
    monkeypatch.setenv("MODEL_NAME", str(tmp_path / shallow_model.name))
    monkeypatch.setenv("MODELS_DIR", str(tmp_path))
    monkeypatch.setattr(tune, "SLOTS", (2, 4))
    monkeypatch.setattr(tune, "CALL_TOKENS", (16, 32))
    monkeypatch.setattr(tune, "_ROUNDS", 1)
    assert tune.main([]) == 0
    shown = capsys.readouterr().out
    assert "PREFILL_TOKENS  16: " in shown
    assert "KV_CACHE_TYPE   f16: " in shown
    (entry,) = json.loads((tmp_path / tuning.FILE_NAME).read_text()).values()
    assert set(entry["settings"]) == set(tuning.TUNED)
    assert entry["settings"]["batch_size"] in (2, 4)

    settings = small_settings(models_dir=tmp_path, model_name=str(tmp_path / shallow_model.name))
    free = Settings.load(**settings.model_dump(exclude=set(tuning.TUNED)))
    with loadPipeline(free) as pipeline:
        (engine,) = pipeline.engines.values()
        assert engine.options.slots == entry["settings"]["batch_size"]
        assert engine.options.call_tokens == entry["settings"]["prefill_tokens"]


@pytest.mark.slow
def test_an_interrupt_stops_it_and_nothing_is_noted(shallow_model: Path, tmp_path: Path) -> None:
    (tmp_path / shallow_model.name).symlink_to(shallow_model)
    settings = {"MODEL_NAME": str(tmp_path / shallow_model.name), "MODELS_DIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime.tune"],
        cwd=PROJECT_DIR,
        env={**os.environ, **settings, "NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while sum(psutil.Process(process.pid).cpu_times()[:2]) < 3:  # it is measuring by then
        assert process.poll() is None
        time.sleep(0.05)
    said, seconds = interrupt(process)
    assert process.returncode == 130, said
    assert said.splitlines()[-1].startswith("stopped")
    assert "Traceback" not in said
    assert seconds < 2
    assert not (tmp_path / tuning.FILE_NAME).exists()
