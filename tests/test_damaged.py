"""Damaged model files give one clear error, in a process that goes on."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from convert.sources import open_source
from convert.writing import write_model
from runtime.engine import probe
from runtime.engine.probe import crash_reason
from runtime.settings import PROJECT_DIR
from tests.checkpoints import save_checkpoint, tiny_sentencepiece, tiny_tokenizer
from tests.ggufs import replace_string, write_adapter

TRY = """
import sys
from runtime import Settings, loadPipeline
for path in sys.argv[1:]:
    try:
        loadPipeline(Settings.load(model_name=path, batch_size=2, max_input_tokens=256))
    except RuntimeError as error:
        print(str(error).replace("\\n", " "))
    else:
        print("no error")
"""


def load(*paths: Path, **environment: str) -> list[str]:
    """What loading one file after another says, in a process where a crash is seen as one."""
    result = subprocess.run(
        [sys.executable, "-c", TRY, *map(str, paths)],
        capture_output=True,
        text=True,
        cwd=PROJECT_DIR,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stderr
    said = result.stdout.splitlines()
    assert len(said) == len(paths)
    return said


def refused(paths: list[Path]) -> None:
    """Each file is named in its own error, and the process goes on to the next."""
    for path, said in zip(paths, load(*paths), strict=True):
        assert path.name in said


def test_a_damaged_adapter(demo_model: Path, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "damaged.gguf")
    content = bytearray(path.read_bytes())
    name = b"blk.0.attn_q.weight.lora_a"
    type_at = content.index(name) + len(name) + 4 + 2 * 8  # behind the dimensions
    content[type_at : type_at + 4] = struct.pack("<I", 26)  # I32 instead of F32
    path.write_bytes(content)
    (said,) = load(demo_model, PEFT_ADAPTER_PATH=str(path))
    assert "damaged.gguf" in said


def test_truncated_files(demo_model: Path, tmp_path: Path) -> None:
    whole, paths = demo_model.read_bytes(), []
    for share in (0.0, 0.0000001, 0.001, 0.02, 0.5, 0.999999):
        paths.append(tmp_path / f"cut at {share}.gguf")
        paths[-1].write_bytes(whole[: int(len(whole) * share)])
    refused(paths)


def test_garbage(tmp_path: Path) -> None:
    paths = []
    for content in (b"garbage" * 1000, b"GGUF" + b"\xff" * 1000, b"GGUF" + bytes(1000)):
        paths.append(tmp_path / f"garbage {len(paths)}.gguf")
        paths[-1].write_bytes(content)
    refused(paths)


def test_damaged_metadata(vocabularies: dict[str, Path], tmp_path: Path) -> None:
    whole, paths = vocabularies["SentencePiece"], []
    for key, value in (
        ("llama.block_count", struct.pack("<I", 4_000_000)),
        ("llama.attention.layer_norm_rms_epsilon", struct.pack("<f", -1.0)),
        ("llama.attention.head_count", struct.pack("<I", 0)),
        ("llama.embedding_length", struct.pack("<I", 7)),
        ("tokenizer.ggml.model", b"gpt99"),
    ):
        paths.append(tmp_path / f"{key}.gguf")
        content = bytearray(whole.read_bytes())
        field = gguf.GGUFReader(whole).fields[key]
        at = field.offset + sum(part.nbytes for part in field.parts[:-1])
        assert len(value) == field.parts[-1].nbytes
        content[at : at + len(value)] = value
        paths[-1].write_bytes(content)
    refused(paths)


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model with a byte-pair vocabulary, and one with SentencePiece's."""
    folder, made = tmp_path_factory.mktemp("vocabularies"), {}
    for name, kind, tokenizer in (
        ("byte pairs", "qwen3", tiny_tokenizer()),
        ("SentencePiece", "llama", tiny_sentencepiece()),
    ):
        made[name] = folder / f"{kind}.gguf"
        source = open_source(save_checkpoint(folder / kind, kind, tokenizer))
        write_model(source, made[name], "F32")
    return made


@pytest.mark.parametrize(
    ("vocabulary", "named"),
    [("byte pairs", "llama"), ("SentencePiece", "bert"), ("SentencePiece", "rwkv")],
)
def test_a_vocabulary_that_calls_itself_another_kind_is_refused_with_words(
    vocabularies: dict[str, Path], tmp_path: Path, vocabulary: str, named: str
) -> None:
    path = tmp_path / "other.gguf"
    replace_string(vocabularies[vocabulary], path, "tokenizer.ggml.model", named.encode())
    (said,) = load(path)
    assert re.search(r"other\.gguf is damaged: llama\.cpp crashes on it \(\w+ing: ", said)


def test_what_was_right_passes_the_trial(vocabularies: dict[str, Path], demo_model: Path) -> None:
    for path in (*vocabularies.values(), demo_model):
        assert crash_reason(path) == ""


def test_the_trial_has_text_with_every_byte_that_a_question_may_have() -> None:
    never_in_utf8 = {0xC0, 0xC1, *range(0xF5, 0x100)}
    assert set(probe._text().encode()) == set(range(1, 0x100)) - never_in_utf8


def test_a_trial_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_LONGEST_SECONDS", 0.5)
    os.mkfifo(tmp_path / "pipe.gguf")  # opening it waits for a writer
    assert crash_reason(tmp_path / "pipe.gguf") == "no answer in 0.5 seconds"
