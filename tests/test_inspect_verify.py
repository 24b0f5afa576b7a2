"""What `convert.inspect` and `convert.verify` say of a file, and what quantizing keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from convert import inspect, verify
from convert.export_gguf import main
from convert.lora import Adapter
from convert.sources import open_source
from convert.survival import share_kept
from runtime.settings import PROJECT_DIR
from tests.checkpoints import save_lora
from tests.exporting import export

pytest_plugins = ["tests.exporting"]


def test_an_adapter_that_quantizing_would_round_away_is_named(
    work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A small change survives in the file of a float base, and not in that of a quantized one."""
    lora = tmp_path / "tiny-chat-lora-history"
    save_lora(lora, work / "tiny-chat", spread=0.002)
    export(work, "--type", "Q4_0")

    def kept(base: Path) -> float:
        folder = tmp_path / "merged" / base.name
        merge = ["--lora", lora, "--subject", "history", "--type", "Q4_0"]
        assert main([str(a) for a in ("--base", base, "--output", folder, *merge)]) == 0
        (merged,) = folder.glob("*-history-Q4_0.gguf")
        return share_kept(Adapter(lora, open_source(base)), merged)

    assert kept(work / "tiny-chat") > 0.8
    assert "rounded away" not in caplog.text
    assert kept(work / "models" / "tiny-chat-Q4_0.gguf") < 0.3
    assert f"{lora}: Q4_0 keeps " in caplog.text
    assert "rounded away: serve it as an adapter (--mode adapter)" in caplog.text


def test_inspect_and_verify_say_what_a_file_is(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = work / "loras" / "tiny-chat-lora-history"
    export(work, "--lora", history, "--subject", "history", "--type", "F16")

    def said_by(command: Callable[[list[str]], int], *arguments: str | Path) -> str:
        capsys.readouterr()
        assert command([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    file = work / "models" / "tiny-chat-history-F16.gguf"
    said = said_by(inspect.main, file)
    assert "tuned for history" in said
    assert "merged for history, F16, made of tiny-chat and tiny-chat-lora-history" in said
    assert "unaltered" in said
    said = said_by(verify.main, work / "tiny-chat", history, file)
    assert float(said.split("same likeliest token  ")[1].split("%")[0]) > 90
    said = said_by(verify.main, work / "tiny-chat", history, file, "--cache-type", "q8_0")
    divergence = float(said.split("mean ")[1].split()[0])
    assert 0 < divergence < 0.05, "eight bits of the cache are seen, and change little"
    said = said_by(verify.main, work / "tiny-chat", "none", file)
    assert "same likeliest token  100" not in said, "the bare base is another model"


def test_inspecting_works_on_a_screen_with_few_characters(work: Path) -> None:
    export(work, "--type", "F16")
    file = work / "models" / "tiny-chat-F16.gguf"
    ran = subprocess.run(
        [sys.executable, "-m", "convert.inspect", str(file)],
        env={**os.environ, "PYTHONIOENCODING": "cp437"},
        cwd=PROJECT_DIR,
        capture_output=True,
    )
    assert ran.returncode == 0
    assert b"\\u201c" in ran.stdout
