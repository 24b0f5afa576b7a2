"""Importance matrix: how strongly each column of each weight is used on calibration text.

For every matrix multiplication the mean square of each input column is collected; llama.cpp's
quantizer weights rounding errors by it. Files have llama.cpp's format (GGUF with `general.type`
"imatrix": for each weight the sums `in_sum2` and the number of rows `counts`), so that
llama-quantize and llama-imatrix can read them too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Before llama_cpp: sets what its libraries read when they are loaded.
import runtime.engine.library  # noqa: F401  # isort: skip

import gguf
import llama_cpp as llama
import numpy as np
from tqdm import tqdm

from convert.errors import ConvertError
from convert.gguf_file import GgufFile
from runtime.common.atomic import replacing
from runtime.common.files import read_text
from runtime.common.records import read_records
from runtime.engine import ggml
from runtime.engine.batch import Batch
from runtime.engine.calls import Callbacks
from runtime.engine.context import Context
from runtime.engine.llama import physical_cores
from runtime.engine.model import Model

CHUNK = 512


@dataclass
class Importance:
    """Sums over calibration text.

    Attributes:
        sums: for each weight, the sum of the squares of its input columns, float64 [columns].
        counts: for each weight, the number of rows in the sum.
        texts: names of the text files.
        chunks: number of pieces of `CHUNK` tokens.
    """

    sums: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    chunks: int = 0

    def means(self) -> dict[str, np.ndarray]:
        """Mean squares, float32 [columns] for each weight, for `quantize`."""
        return {
            name: (total / self.counts[name]).astype(np.float32)
            for name, total in self.sums.items()
        }

    def add(self, name: str, rows: np.ndarray) -> None:
        """Add input rows [n, columns] of a weight."""
        total = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
        if name in self.sums:
            self.sums[name] += total
        else:
            self.sums[name] = total
        self.counts[name] = self.counts.get(name, 0) + len(rows)

    def save(self, path: Path) -> None:
        """Write llama.cpp's format atomically. Raises OSError."""
        with replacing(path) as partial:
            writer = gguf.GGUFWriter(partial, "imatrix")
            writer.kv_data[0].clear()  # such a file has no architecture
            writer.add_type("imatrix")
            writer.add_array("imatrix.datasets", self.texts)
            writer.add_uint32("imatrix.chunk_count", self.chunks)
            writer.add_uint32("imatrix.chunk_size", CHUNK)
            for name, total in sorted(self.sums.items()):
                writer.add_tensor(f"{name}.in_sum2", total.astype(np.float32)[None])
                writer.add_tensor(f"{name}.counts", np.array([[self.counts[name]]], np.float32))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()

    @classmethod
    def load(cls, path: Path) -> Importance:
        """Read llama.cpp's format. Raises ConvertError."""
        file = GgufFile(path)
        if file.kind != "imatrix":
            raise ConvertError(f"{path}: not an importance matrix, but a {file.kind}")
        try:
            data = {tensor.name: np.asarray(tensor.data) for tensor in file.tensors}
            texts = file.fields["imatrix.datasets"].contents()
            chunks = int(file.fields["imatrix.chunk_count"].contents())
            sums = {
                name.removesuffix(".in_sum2"): total.astype(np.float64).ravel()
                for name, total in data.items()
                if name.endswith(".in_sum2")
            }
            counts = {name: round(float(data[f"{name}.counts"].ravel()[0])) for name in sums}
        except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
            raise ConvertError(f"{path}: not a whole importance matrix ({error})") from None
        return cls(sums, counts, [texts] if isinstance(texts, str) else list(texts), chunks)


def compute(model_path: Path, texts: Sequence[Path], most_chunks: int = 200) -> Importance:
    """Run calibration text through a model and collect the importance of its weights.

    Args:
        model_path: a GGUF file; a float one gives the cleanest figures.
        texts: plain text, or JSON (Lines) of {"question", "answer"} records, perhaps with a
            "solution", or of {"text"} records.
        most_chunks: most pieces of `CHUNK` tokens.

    Raises:
        ConvertError: a text cannot be read, or there is less than one chunk of it.
        EngineError: the model cannot be loaded.
    """
    text = "\n\n".join(calibration_text(path) for path in texts)
    importance = Importance(texts=[path.name for path in texts])

    def look(address: int, ask: bool, _: Any) -> bool:
        """llama.cpp first asks whether a result is wanted, and then shows it."""
        found = ggml.multiplication(address)
        if found is None or not re.fullmatch(r"blk\..*\.weight", found.weight):
            return not ask
        if not ask:
            importance.add(found.weight, found.input())
        return True

    callbacks = Callbacks()
    callback = callbacks.wrap(llama.ggml_backend_sched_eval_callback, look, failed=True)
    model = Model(model_path)
    try:
        tokens = model.tokenize(text)
        n_chunks = min(len(tokens) // CHUNK, most_chunks)
        if n_chunks == 0:
            raise ConvertError(
                f"{', '.join(map(str, texts))}: {len(tokens)} tokens of calibration text; at least"
                f" {CHUNK} are needed, 50,000 recommended"
            )
        context = Context(model, 1, 0, CHUNK, physical_cores(), eval_callback=callback)
        batch = Batch(CHUNK)
        for n in tqdm(range(n_chunks), unit="chunk", desc="importance", disable=None):
            context.clear_all()
            piece = tokens[n * CHUNK : (n + 1) * CHUNK]
            # Without logits of all tokens, the last layer would compute only some rows.
            context.run(batch.fill(piece, np.arange(CHUNK), 0, 1))
            callbacks.check()
            importance.chunks += 1
    finally:
        model.close()
    return importance


def calibration_text(path: Path) -> str:
    """Calibration text from a plain file, or from JSON (Lines) records. Raises UserError."""
    if path.suffix not in (".json", ".jsonl"):
        try:
            return read_text(path)
        except (OSError, ValueError) as error:
            raise ConvertError(f"{path}: cannot be read as calibration text ({error})") from None
    texts = []
    for record in read_records(path):
        problem = record.problem
        if not problem and not isinstance(record.value, dict):
            problem = f"is a {type(record.value).__name__}, not an object"
        if problem:
            raise ConvertError(f"{path}, {record.where} {problem}")
        texts.append(_record_text(record.value))
    return "\n\n".join(texts)


def _record_text(record: dict[str, Any]) -> str:
    keys = ("text", "question", "solution", "answer")
    return "\n".join(str(record[key]) for key in keys if record.get(key) is not None)
