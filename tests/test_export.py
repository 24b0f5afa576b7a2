"""`python -m convert.export_gguf`, and the manifest it writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import pytest

from convert.export_gguf import main
from runtime import loadPipeline
from runtime.files.bases import base_name
from runtime.files.manifest import Manifest
from runtime.files.quantize import TYPES
from tests.checkpoints import rewrite_config
from tests.exporting import export, files, routes, settings

pytest_plugins = ["tests.exporting"]


def test_every_subject_found_is_merged_and_served(work: Path) -> None:
    export(work, "--loras", work / "loras")
    merged = {f"tiny-chat-{s}-Q4_K_M.gguf" for s in ("history", "general")}
    assert files(work) == merged | {"manifest.json"}
    served = routes(work)
    assert served["history"] == ("tiny-chat-history-Q4_K_M.gguf", None)
    assert served["chinese"] == served["general"] == ("tiny-chat-general-Q4_K_M.gguf", None)
    with loadPipeline(settings(work)) as pipeline:
        assert len(pipeline.engines) == 2
        questions = [{"questionID": s, "subject": s, "question": "Why?"} for s in served]
        assert len(pipeline(questions)) == 5


def test_adapters_are_served_on_one_base_and_switching_costs_no_reload(work: Path) -> None:
    export(work, "--loras", work / "loras", "--mode", "adapter")
    served = routes(work)
    assert served["history"] == ("tiny-chat-Q4_K_M.gguf", "tiny-chat-lora-history.gguf")
    assert served["algebra"] == ("tiny-chat-Q4_K_M.gguf", "tiny-chat-lora-general.gguf")
    with loadPipeline(settings(work)) as pipeline:
        assert len(pipeline.engines) == 1
        questions = [
            {"questionID": n, "subject": ("history", "general")[n % 2], "question": "Why?"}
            for n in range(6)
        ]
        answers = pipeline(questions)
    assert answers[0]["answer"] != answers[1]["answer"]


def test_a_second_run_does_nothing_and_says_so(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(work, "--loras", work / "loras")
    before = {p: p.stat().st_mtime_ns for p in (work / "models").iterdir()}
    capsys.readouterr()
    export(work, "--loras", work / "loras")
    assert capsys.readouterr().out.count("up to date") == 2
    assert {p: p.stat().st_mtime_ns for p in (work / "models").iterdir()} == before


def test_what_has_changed_or_was_damaged_is_made_anew(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora = work / "loras" / "tiny-chat-lora-history"
    arguments = ("--lora", lora, "--subject", "history", "--type", "Q8_0")
    export(work, *arguments)
    file = work / "models" / "tiny-chat-history-Q8_0.gguf"
    first = file.read_bytes()
    file.write_bytes(first[:-1])
    export(work, *arguments)
    assert file.read_bytes() == first
    rewrite_config(lora, lora_alpha=16)
    export(work, *arguments)
    assert file.read_bytes() != first
    assert "up to date" not in capsys.readouterr().out


@pytest.mark.parametrize("type_", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_0", "IQ4_NL"])
def test_types_by_name(work: Path, type_: str) -> None:
    assert type_ in TYPES
    export(work, "--type", type_)
    (entry,) = Manifest.load(work / "models").files
    tensors = gguf.GGUFReader(work / "models" / entry.path).tensors
    assert type_ in {tensor.tensor_type.name for tensor in tensors}
    assert (entry.role, entry.quantization, entry.subject) == ("base", type_, None)


def test_the_manifest_tells_what_each_file_is(work: Path) -> None:
    export(work, "--loras", work / "loras", "--type", "Q8_0")
    entry = Manifest.load(work / "models").find("tiny-chat-history-Q8_0.gguf")
    assert entry is not None
    assert (entry.role, entry.base, entry.subject) == ("merged", "tiny-chat", "history")
    assert entry.adapter == "tiny-chat-lora-history"
    assert entry.size == (work / "models" / entry.path).stat().st_size
    assert set(entry.made_with) == {"llama_cpp_python", "gguf"}


def test_a_gguf_base(tmp_path: Path, work: Path) -> None:
    export(work, "--type", "F16")
    again = ["--base", str(work / "models" / "tiny-chat-F16.gguf"), "--output", str(tmp_path)]
    lora = work / "loras" / "tiny-chat-lora-history"
    assert main([*again, "--lora", str(lora), "--subject", "history", "--type", "Q8_0"]) == 0
    assert (tmp_path / "tiny-chat-history-Q8_0.gguf").is_file()


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("Qwen/Qwen3-1.7B", "Qwen3-1.7B"),
        ("/app/models/Qwen3-1.7B", "Qwen3-1.7B"),
        ("/x/models--Qwen--Qwen3-1.7B/snapshots/0123abc", "Qwen3-1.7B"),
        ("models/Qwen3-1.7B-Q4_K_M.gguf", "Qwen3-1.7B"),
        ("my-model.gguf", "my-model"),
        ("demo", "SmolLM2-135M-Instruct"),
    ],
)
def test_what_a_base_is_called(name: str, base: str) -> None:
    assert base_name(name) == base


def test_a_hub_id_is_found_in_hugging_faces_cache(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "cache" / "models--me--tiny-chat"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    shutil.copytree(work / "tiny-chat", repository / "snapshots" / "abc")
    monkeypatch.setenv("HF_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["--base", "me/tiny-chat", "--type", "F16", "--output", str(tmp_path / "m")]) == 0
    assert (tmp_path / "m" / "tiny-chat-F16.gguf").is_file()


def test_a_base_in_the_folder_of_the_exports_is_left_as_it_is(work: Path) -> None:
    export(work, "--type", "Q4_K_M")
    base = work / "models" / "tiny-chat-Q4_K_M.gguf"
    before = base.read_bytes()
    lora = work / "loras" / "tiny-chat-lora-history"
    command = ["--base", str(base), "--output", str(work / "models"), "--mode", "adapter"]
    assert main([*command, "--lora", str(lora), "--subject", "history"]) == 0
    assert base.read_bytes() == before
    assert routes(work)["history"] == (base.name, "tiny-chat-lora-history.gguf")


def test_an_adapter_of_a_base_of_another_name_is_remarked_on(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lora = work / "loras" / "tiny-chat-lora-history"
    rewrite_config(lora, base_model_name_or_path="Qwen/Qwen3-0.6B")
    export(work, "--lora", lora, "--subject", "history")
    assert "was trained on Qwen/Qwen3-0.6B; it is applied to tiny-chat" in caplog.text


def test_of_two_adapters_for_a_subject_the_one_trained_on_this_base_is_taken(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(work / "loras" / "tiny-chat-lora-history", work / "loras" / "b-lora-history")
    rewrite_config(work / "loras" / "b-lora-history", base_model_name_or_path="me/other")
    arguments = ["--loras", work / "loras", "--mode", "adapter", "--no-base"]
    export(work, *arguments)
    assert files(work) == {"manifest.json"} | {
        f"tiny-chat-lora-{subject}.gguf" for subject in ("history", "general")
    }
    history = Manifest.load(work / "models").find("tiny-chat-lora-history.gguf")
    assert history is not None
    assert history.adapter == "tiny-chat-lora-history"
    rewrite_config(work / "loras" / "b-lora-history", base_model_name_or_path="me/tiny-chat")
    export(work, *arguments, status=1)
    assert "several adapters for history (b-lora-history, tiny" in capsys.readouterr().err
