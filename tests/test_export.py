"""`python -m convert.export_gguf`, the manifest it writes, and the routes made of it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from convert import inspect, verify
from convert.errors import ConvertError
from convert.export_gguf import main
from convert.imatrix import CHUNK, Importance, compute, read_text
from convert.lora import Adapter
from convert.sources import open_source
from convert.survival import share_kept
from convert.writing import write_model
from runtime import Settings, SetupError, loadPipeline
from runtime.engine import EngineError, ggml
from runtime.files.bases import base_name
from runtime.files.manifest import Manifest
from runtime.files.quantize import TYPES
from runtime.files.routes import plan_routes
from runtime.settings import PROJECT_DIR
from tests.checkpoints import rewrite_config, save_checkpoint, save_lora, tiny_tokenizer
from tests.conftest import SAMPLES, small_settings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base called tiny-chat and adapters for history and general."""
    folder = tmp_path_factory.mktemp("made")
    base = save_checkpoint(folder / "tiny-chat", "qwen3", tiny_tokenizer())
    for subject in ("history", "general"):
        save_lora(folder / "loras" / f"tiny-chat-lora-{subject}", base)
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    shutil.copytree(made, tmp_path / "w")
    return tmp_path / "w"


def export(work: Path, *arguments: str | Path, status: int = 0) -> None:
    base = ["--base", work / "tiny-chat", "--output", work / "models"]
    assert main([str(a) for a in (*base, *arguments)]) == status


def settings(work: Path, **overrides: Any) -> Settings:
    values = {"model_name": "me/tiny-chat", "models_dir": work / "models"} | overrides
    return small_settings(**{"max_input_tokens": 128, "batch_size": 2} | values)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def files(work: Path) -> set[str]:
    """What lies in the models folder, but for the lock that exports hold while they write."""
    folder = work / "models"
    return names(folder) - {".manifest.json.lock"} if folder.exists() else set()


def routes(work: Path, **overrides: Any) -> dict[str, tuple[str, str | None]]:
    planned = plan_routes(settings(work, **overrides))
    return {s: (r.model.name, r.adapter and r.adapter.name) for s, r in planned.items()}


# --- the command -----------------------------------------------------------------


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


# --- what goes wrong -------------------------------------------------------------


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
        (["--type", "Q3"], "--type Q3: no such type; there are F32, F16"),
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


def test_a_base_in_the_folder_of_the_exports_is_left_as_it_is(work: Path) -> None:
    export(work, "--type", "Q4_K_M")
    base = work / "models" / "tiny-chat-Q4_K_M.gguf"
    before = base.read_bytes()
    lora = work / "loras" / "tiny-chat-lora-history"
    command = ["--base", str(base), "--output", str(work / "models"), "--mode", "adapter"]
    assert main([*command, "--lora", str(lora), "--subject", "history"]) == 0
    assert base.read_bytes() == before
    assert routes(work)["history"] == (base.name, "tiny-chat-lora-history.gguf")


def test_what_was_exported_last_serves_a_subject(work: Path) -> None:
    history = ("--lora", work / "loras" / "tiny-chat-lora-history", "--subject", "history")
    export(work)
    export(work, *history)
    assert routes(work)["history"] == ("tiny-chat-history-Q4_K_M.gguf", None)
    export(work, *history, "--mode", "adapter")
    assert routes(work)["history"] == ("tiny-chat-Q4_K_M.gguf", "tiny-chat-lora-history.gguf")
    assert routes(work, model_name="Me/TINY-chat")["history"][1] == "tiny-chat-lora-history.gguf"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", '{"num_attention_heads": "four"}', "config.json: cannot be read"),
        ("config.json", '{"intermediate_size": 96}', "by config.json it has (96, 64)"),
        ("config.json", '{"num_hidden_layers": 3}', "no tensor for blk.2.attn_norm.weight"),
        ("tokenizer_config.json", "{", "tokenizer cannot be read"),
    ],
)
def test_a_broken_checkpoint_is_named(
    work: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, message: str
) -> None:
    path = work / "tiny-chat" / file
    if content != "{":
        changed = json.loads(path.read_text()) | json.loads(content)
        changed.pop("layer_types", None)
        content = json.dumps(changed)
    path.write_text(content)
    export(work, "--type", "F16", status=1)
    assert message in capsys.readouterr().err
    assert files(work) == set()


@pytest.fixture(scope="module")
def gguf_base(made: Path) -> Path:
    """The base as a GGUF file, which a new process reads without loading transformers first."""
    write_model(open_source(made / "tiny-chat"), made / "tiny-chat.gguf", "F16")
    return made / "tiny-chat.gguf"


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


# --- routes ----------------------------------------------------------------------


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


# --- importance matrix -----------------------------------------------------------


def test_the_importance_matrix_is_the_mean_square_of_each_layers_input(
    made: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = tmp_path / "text.txt"
    text.write_text(SAMPLES.read_text(encoding="utf-8"), encoding="utf-8")
    write_model(open_source(made / "tiny-chat"), tmp_path / "m.gguf", "F32")
    importance = compute(tmp_path / "m.gguf", [text], most_chunks=3)
    assert importance.chunks == 3

    model = AutoModelForCausalLM.from_pretrained(made / "tiny-chat", dtype=torch.float32)
    sums: dict[str, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(
                lambda _, x, name=name: sums.update(
                    {name: sums.get(name, 0) + (x[0][0] ** 2).sum(dim=0).numpy()}
                )
            )
    tokens = AutoTokenizer.from_pretrained(made / "tiny-chat").encode(text.read_text("utf-8"))
    with torch.inference_mode():
        for n in range(3):
            model(torch.tensor([tokens[n * CHUNK : (n + 1) * CHUNK]]))
    for ours, theirs in (("attn_q", "self_attn.q_proj"), ("ffn_down", "mlp.down_proj")):
        for layer in (0, 1):
            mean = importance.means()[f"blk.{layer}.{ours}.weight"]
            expected = sums[f"model.layers.{layer}.{theirs}"] / (3 * CHUNK)
            # The KV cache is float16 and so is the precision behind the first attention.
            assert np.allclose(mean, expected, rtol=2e-2, atol=1e-4), (ours, layer)


def test_another_layout_of_llama_cpp_s_tensors_is_refused_not_read(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown() -> None:
        raise EngineError("this build of ggml lays tensors out in an unknown way")

    monkeypatch.setattr(ggml, "library", unknown)
    text = tmp_path / "text.txt"
    text.write_text(SAMPLES.read_text(encoding="utf-8"), encoding="utf-8")
    write_model(open_source(made / "tiny-chat"), tmp_path / "m.gguf", "F32")
    with pytest.raises(EngineError, match="in an unknown way"):
        compute(tmp_path / "m.gguf", [text], most_chunks=1)


def test_calibration_text_is_read_by_lines_and_what_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "a\u2028b", "answer": "c\x85d"}\n{"text": "e"}\n', "utf-8")
    assert read_text(path) == "a\u2028b\nc\x85d\n\ne"
    path.write_text('{"text": "e"}\n[1]\n')
    with pytest.raises(ConvertError, match=r"a\.jsonl, line 2 is a list, not an object"):
        read_text(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ConvertError, match=r"a\.jsonl, line 1 is nested too deeply"):
        read_text(path)


def test_an_importance_matrix_is_saved_and_used(work: Path, tmp_path: Path) -> None:
    export(work, "--type", "IQ4_NL", "--calibration", SAMPLES)
    plain = work / "models" / "tiny-chat-IQ4_NL.gguf"
    with_matrix = plain.read_bytes()
    matrix = work / "models" / "tiny-chat-IQ4_NL.imatrix.gguf"
    loaded = Importance.load(matrix)
    assert loaded.texts == ["sample_questions.jsonl"]
    assert len(loaded.sums) == 14  # seven linear layers in each of two blocks
    assert all(count == loaded.chunks * CHUNK for count in loaded.counts.values())
    export(work, "--type", "IQ4_NL", "--importance", matrix)
    assert plain.read_bytes() == with_matrix
    export(work, "--type", "IQ4_NL")
    assert plain.read_bytes() != with_matrix


def test_each_subject_has_calibration_text_of_its_own(work: Path) -> None:
    lines = SAMPLES.read_text(encoding="utf-8").splitlines()
    (work / "train_history.jsonl").write_text("\n".join(lines))
    (work / "train_general.jsonl").write_text("\n".join(lines[::-1] * 2))
    pattern = work / "train_{subject}.jsonl"
    export(work, "--loras", work / "loras", "--type", "Q4_0", "--calibration", pattern)
    for subject in ("history", "general"):
        matrix = Importance.load(work / "models" / f"tiny-chat-{subject}-Q4_0.imatrix.gguf")
        assert matrix.texts == [f"train_{subject}.jsonl"]


def test_an_adapter_of_a_base_of_another_name_is_remarked_on(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lora = work / "loras" / "tiny-chat-lora-history"
    rewrite_config(lora, base_model_name_or_path="Qwen/Qwen3-0.6B")
    export(work, "--lora", lora, "--subject", "history")
    assert "was trained on Qwen/Qwen3-0.6B; it is applied to tiny-chat" in caplog.text


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
    picture = work / "kl.png"
    said = said_by(verify.main, work / "tiny-chat", history, file, "--plot", picture)
    assert float(said.split("same likeliest token  ")[1].split("%")[0]) > 90
    assert picture.read_bytes().startswith(b"\x89PNG")
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


def test_leaving_the_base_out_is_for_adapters_only(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(work, "--loras", work / "loras", "--no-base", status=1)
    assert "--no-base needs --mode adapter" in capsys.readouterr().err
