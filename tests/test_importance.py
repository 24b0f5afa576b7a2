"""Importance matrices: how they are computed, saved and used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convert.errors import ConvertError
from convert.imatrix import CHUNK, Importance, calibration_text, compute
from convert.sources import open_source
from convert.writing import write_model
from runtime.engine import EngineError, ggml
from tests.conftest import SAMPLES
from tests.exporting import export

pytest_plugins = ["tests.exporting"]


def test_the_importance_matrix_is_the_mean_square_of_each_layers_input(
    tiny: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = tmp_path / "text.txt"
    text.write_text(SAMPLES.read_text(encoding="utf-8"), encoding="utf-8")
    write_model(open_source(tiny), tmp_path / "m.gguf", "F32")
    importance = compute(tmp_path / "m.gguf", [text], most_chunks=3)
    assert importance.chunks == 3

    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    sums: dict[str, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(
                lambda _, x, name=name: sums.update(
                    {name: sums.get(name, 0) + (x[0][0] ** 2).sum(dim=0).numpy()}
                )
            )
    tokens = AutoTokenizer.from_pretrained(tiny).encode(text.read_text("utf-8"))
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
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown() -> None:
        raise EngineError("this build of ggml lays tensors out in an unknown way")

    monkeypatch.setattr(ggml, "library", unknown)
    text = tmp_path / "text.txt"
    text.write_text(SAMPLES.read_text(encoding="utf-8"), encoding="utf-8")
    write_model(open_source(tiny), tmp_path / "m.gguf", "F32")
    with pytest.raises(EngineError, match="in an unknown way"):
        compute(tmp_path / "m.gguf", [text], most_chunks=1)


def testcalibration_text_is_read_by_lines_and_what_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "a\u2028b", "answer": "c\x85d"}\n{"text": "e"}\n', "utf-8")
    assert calibration_text(path) == "a\u2028b\nc\x85d\n\ne"
    path.write_text('{"question": "2+3?", "answer": 5, "solution": "2+3 = 5"}')
    assert calibration_text(path) == "2+3?\n2+3 = 5\n5"
    path.write_text('{"text": "e"}\n[1]\n')
    with pytest.raises(ConvertError, match=r"a\.jsonl, line 2 is a list, not an object"):
        calibration_text(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ConvertError, match=r"a\.jsonl, line 1 is nested too deeply"):
        calibration_text(path)
    path = path.with_suffix(".txt")
    path.write_bytes("a\rb".encode("utf-8-sig"))
    assert calibration_text(path) == "a\nb"
    path.write_text("a", "utf-16")
    with pytest.raises(ConvertError, match=r"a\.txt: .*not UTF-8, but UTF-16.* iconv"):
        calibration_text(path)


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


def test_each_subject_hascalibration_text_of_its_own(work: Path) -> None:
    lines = SAMPLES.read_text(encoding="utf-8").splitlines()
    (work / "train_history.jsonl").write_text("\n".join(lines))
    (work / "train_general.jsonl").write_text("\n".join(lines[::-1] * 2))
    pattern = work / "train_{subject}.jsonl"
    export(work, "--loras", work / "loras", "--type", "Q4_0", "--calibration", pattern)
    for subject in ("history", "general"):
        matrix = Importance.load(work / "models" / f"tiny-chat-{subject}-Q4_0.imatrix.gguf")
        assert matrix.texts == [f"train_{subject}.jsonl"]
