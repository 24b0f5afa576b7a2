"""Exports that go wrong: what is said, and that nothing half written is loaded."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from convert.export_gguf import main
from runtime import SetupError, loadPipeline
from runtime.files.routes import plan_routes
from runtime.settings import PROJECT_DIR
from tests.exporting import export, files, names, settings

pytest_plugins = ["tests.exporting"]


def test_an_adapter_that_cannot_be_exported_costs_the_others_nothing(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = work / "loras" / "tiny-chat-lora-general" / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(iter(tensors))
    tensors[name][0, 0] = torch.nan
    save_file(tensors, path)
    export(work, "--loras", work / "loras", status=1)
    assert files(work) == {"tiny-chat-history-Q4_K_M.gguf", "manifest.json"}
    said = capsys.readouterr().err
    assert f"error: general: {path}: tensor {name}: it has NaN" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--type", "Q3"], "--type Q3: no such type; choose from F32, F16"),
        (["--lora", "none", "--subject", "history"], "adapter_config.json: no such file"),
        (["--lora", "x"], "--lora needs --subject"),
        (["--loras", "none"], "--loras none: no such folder"),
        (["--calibration", "none.txt"], "none.txt: No such file"),
        (["--importance", "setup.cfg"], "setup.cfg: not a whole GGUF file"),
        (["--output", "setup.cfg"], "File exists"),
    ],
)
def test_wrong_arguments_are_named(
    work: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    export(work, *arguments, status=1)
    assert message in capsys.readouterr().err
    assert not list((work / "models").glob("**/*.gguf"))


def test_a_base_that_is_not_there_names_where_it_was_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--base", "nobody/nothing", "--output", str(tmp_path)]) == 1
    assert "not found in /app/models, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", '{"num_attention_heads": "four"}', "config.json: cannot be read"),
        ("config.json", '{"intermediate_size": 96}', "by config.json it has (96, 64)"),
        ("config.json", '{"num_hidden_layers": 3}', "no tensor for blk.2.attn_norm.weight"),
        ("tokenizer_config.json", "{", "tokenizer_config.json: cannot be read"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json: not a JSON object"),
    ],
)
def test_a_broken_checkpoint_is_named(
    work: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, message: str
) -> None:
    path = work / "tiny-chat" / file
    if content.startswith('{"'):
        changed = json.loads(path.read_text()) | json.loads(content)
        changed.pop("layer_types", None)
        content = json.dumps(changed)
    path.write_text(content)
    export(work, "--type", "F16", status=1)
    assert message in capsys.readouterr().err
    assert files(work) == set()


@pytest.mark.parametrize("type_", ["F16", "Q4_0"])
def test_a_full_disk_leaves_nothing_half_written(work: Path, gguf_base: Path, type_: str) -> None:
    limit = 150_000  # less than a file takes; writes beyond it fail as on a full disk

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "convert.export_gguf", "--base", gguf_base]
    result = subprocess.run(
        [*command, "--output", work / "models", "--type", type_],
        cwd=PROJECT_DIR,
        preexec_fn=small_files,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "error: " in result.stderr
    assert "Traceback" not in result.stderr
    assert names(work / "models") == set()


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_export_leaves_nothing_that_would_be_loaded(
    work: Path, gguf_base: Path, kill: int
) -> None:
    export(work, "--type", "F16")  # an older file, that must stay as it is
    before = (work / "models" / "tiny-chat-F16.gguf").read_bytes()
    command = [sys.executable, "-m", "convert.export_gguf", "--base", gguf_base, "--force"]
    process = subprocess.Popen(
        [*command, "--output", work / "models", "--type", "F16"],
        cwd=PROJECT_DIR,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(
        name.startswith(".tiny-chat-F16.gguf.") for name in names(work / "models")
    ):
        time.sleep(0.001)
    process.send_signal(kill)
    process.wait()
    assert {n for n in names(work / "models") if n.endswith(".gguf")} == {"tiny-chat-F16.gguf"}
    assert (work / "models" / "tiny-chat-F16.gguf").read_bytes() == before
    if kill == signal.SIGTERM:
        assert files(work) == {"tiny-chat-F16.gguf", "manifest.json"}


@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_a_file_that_is_not_what_the_manifest_says_is_named_before_it_is_loaded(
    work: Path, damage: str
) -> None:
    export(work, "--loras", work / "loras", "--type", "Q4_K_M")
    path = work / "models" / "tiny-chat-history-Q4_K_M.gguf"
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-100])
    else:
        content[-1] ^= 1
        path.write_bytes(content)
    with pytest.raises(SetupError, match=rf"tiny-chat-history-Q4_K_M\.gguf: .*{damage}"):
        loadPipeline(settings(work))


def test_a_broken_manifest_is_named(work: Path) -> None:
    (work / "models").mkdir()
    (work / "models" / "manifest.json").write_text('{"files": 3}')
    with pytest.raises(SetupError, match=r"manifest\.json: not a manifest"):
        plan_routes(settings(work))


def test_leaving_the_base_out_is_for_adapters_only(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(work, "--loras", work / "loras", "--no-base", status=1)
    assert "--no-base needs --mode adapter" in capsys.readouterr().err
