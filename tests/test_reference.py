"""Our GGUF files are those of llama.cpp's own converters.

llama.cpp's scripts come with llama-cpp-python's source distribution; `make reference` gets it.
Differences that are meant: rope_freqs.weight is computed with numpy, not torch, and differs in
the last bit. Ministral 3's YaRN is written in other keys, so that its logits are transformers'.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from convert.lora import Adapter
from convert.sources import open_source
from convert.writing import write_adapter, write_model
from runtime.engine.model import Model
from runtime.settings import PROJECT_DIR
from tests.checkpoints import CONFIGS, rewrite_json, save_checkpoint, save_lora
from tests.forking import Forked
from tests.llama_source import SOURCE, know_tiny_tokenizer
from tests.test_vocabulary import TEXTS

TOKENIZER = Path(os.environ.get("QWEN3_TOKENIZER", PROJECT_DIR / "models" / "qwen3-tokenizer"))

pytestmark = pytest.mark.slow
needs_tokenizer = pytest.mark.skipif(
    not TOKENIZER.is_dir(), reason=f"no Qwen3 tokenizer at {TOKENIZER} (QWEN3_TOKENIZER)"
)
needs_source = pytest.mark.skipif(
    not (SOURCE / "convert_hf_to_gguf.py").is_file(),
    reason=f"no llama.cpp source at {SOURCE}: make reference, or set LLAMA_CPP_SOURCE",
)

LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0} | {
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}


@pytest.fixture(scope="module")
def qwen3() -> Any:
    """Qwen3's own tokenizer."""
    return AutoTokenizer.from_pretrained(TOKENIZER)


def run_script(
    name: str, folder: Path, *arguments: str | Path, prepare: Callable[[], None] | None = None
) -> None:
    """Run a script of llama.cpp's in a folder."""
    status, said = Forked([SOURCE / name, *arguments], folder, prepare).end()
    assert status == 0, said[-2000:]


def metadata(reader: gguf.GGUFReader) -> dict[str, Any]:
    return {
        key: (field.types, b"".join(field.parts[index].tobytes() for index in field.data))
        for key, field in reader.fields.items()
        if not key.startswith("GGUF.")
    }


def assert_same_file(ours: Path, theirs: Path) -> None:
    """The same tensors (name, shape, type, bytes) and the same metadata."""
    readers = [gguf.GGUFReader(path) for path in (ours, theirs)]
    assert metadata(readers[0]) == metadata(readers[1])
    a, b = ({tensor.name: tensor for tensor in reader.tensors} for reader in readers)
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert tensor.tensor_type == b[name].tensor_type, name
        assert tensor.shape.tolist() == b[name].shape.tolist(), name
        if name == "rope_freqs.weight":
            assert np.allclose(tensor.data, b[name].data, rtol=1e-6)
        else:
            same = np.array_equal(
                np.asarray(tensor.data).view(np.uint8), np.asarray(b[name].data).view(np.uint8)
            )
            assert same, name


@needs_source
@pytest.mark.parametrize(
    ("kind", "tied", "name"),
    [
        ("qwen3", True, "F32"),
        ("qwen3", False, "BF16"),
        ("qwen2", True, "F16"),
        ("qwen2", False, "BF16"),
        ("llama", True, "BF16"),
        ("llama", False, "F16"),
        ("mistral", False, "BF16"),
        ("smollm3", True, "BF16"),
        ("granite", True, "BF16"),
        ("olmo2", False, "BF16"),
        ("phi", False, "BF16"),
        ("gemma3", True, "BF16"),
    ],
)
def test_checkpoints(tmp_path: Path, tokenizer: Any, kind: str, tied: bool, name: str) -> None:
    options: dict[str, Any] = {"llama": {"rope_parameters": dict(LLAMA3)}}.get(kind, {})
    if kind == "gemma3":  # of which llama.cpp's converter leaves rows without a token out
        options = {"vocab_size": len(tokenizer)}
    folder = save_checkpoint(
        tmp_path / f"Tiny-{kind}-1B-chat", kind, tokenizer, tied, dtype=torch.bfloat16, **options
    )
    if kind == "phi":  # for which llama.cpp's converter knows a byte-level tokenizer by this
        rewrite_json(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    ours = tmp_path / "ours.gguf"
    write_model(open_source(folder), ours, name)
    assert_theirs_is(ours, folder, name, tmp_path, know_tiny_tokenizer)


def assert_theirs_is(
    ours: Path, folder: Path, name: str, work: Path, prepare: Callable[[], None] | None = None
) -> None:
    """llama.cpp's converter makes the same file of a checkpoint's folder."""
    theirs = work / "theirs.gguf"
    arguments = [folder, "--outfile", theirs, "--outtype", name.lower()]
    run_script("convert_hf_to_gguf.py", work, *arguments, prepare=prepare)
    assert_same_file(ours, theirs)


@needs_source
@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind != "ministral3"])
def test_adapters(tmp_path: Path, tokenizer: Any, kind: str) -> None:
    base = save_checkpoint(tmp_path / "base", kind, tokenizer)
    lora = tmp_path / f"tiny-lora-{kind}"
    save_lora(lora, base)
    source = open_source(base)
    write_adapter(Adapter(lora, source), tmp_path / "ours.gguf")
    theirs = tmp_path / "theirs.gguf"
    arguments = [lora, "--base", base, "--outfile", theirs]
    run_script("convert_lora_to_gguf.py", tmp_path, *arguments)
    assert_same_file(tmp_path / "ours.gguf", theirs)


@pytest.fixture(scope="module")
def real(qwen3: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint with Qwen3's own tokenizer, and our file of it."""
    work = tmp_path_factory.mktemp("real")
    folder = save_checkpoint(work / "Tiny-qwen3-1B-chat", "qwen3", qwen3, dtype=torch.bfloat16)
    write_model(open_source(folder), work / "ours.gguf", "BF16")
    return folder, work / "ours.gguf"


@needs_source
@needs_tokenizer
def test_a_checkpoint_with_a_real_vocabulary(tmp_path: Path, real: tuple[Path, Path]) -> None:
    folder, ours = real
    assert_theirs_is(ours, folder, "BF16", tmp_path)


@needs_tokenizer
def test_qwen3s_own_tokenizer_through_the_gguf(qwen3: Any, real: tuple[Path, Path]) -> None:
    model = Model(real[1])
    for text in TEXTS:
        assert model.tokenize(text, special=True) == qwen3.encode(text), text
    model.close()
