"""The kernels that scripts/patches adds to llama.cpp compute what llama.cpp computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.engine import Engine, EngineOptions, Model
from runtime.engine.kernels import is_best_mapped
from runtime.engine.library import cpu_features
from tests import products

pytestmark = pytest.mark.skipif(
    not products.has_kernel(), reason="llama.cpp was built without this project's patches"
)

LAYOUTS = [("Q4_K", True), ("Q4_K", False), ("Q5_K", False), ("Q6_K", False)]
INSTRUCTIONS = ["VNNI", "AMX"] if "AMX_INT8" in cpu_features() else ["VNNI"]


def multiply(out: Path, least: int, amx: bool = True, **job: Any) -> dict[str, np.ndarray]:
    """The products of a job, with the kernel for `least` columns and more; 0 is without it."""
    script = products.__file__ or ""
    subprocess.run(
        [sys.executable, script, str(out), json.dumps(job)],
        env=os.environ | {"GGML_KQUANT_VNNI": str(least), "GGML_KQUANT_AMX": str(int(amx))},
        check=True,
        capture_output=True,
    )
    with np.load(out) as found:
        return dict(found)


@pytest.mark.parametrize(("kind", "repacked"), LAYOUTS)
@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize(("k", "rows", "threads"), [(256, 16, 1), (1024, 208, 2), (2048, 64, 3)])
def test_products_are_llama_cpps_but_for_rounding(
    tmp_path: Path, kind: str, repacked: bool, instructions: str, k: int, rows: int, threads: int
) -> None:
    amx = instructions == "AMX"
    job = {"type": kind, "repacked": repacked, "k": k, "rows": rows, "threads": threads}
    columns = [*range(1, 14), 24, 25, 61, 130]
    ours = multiply(tmp_path / "ours.npz", 1, amx, columns=columns, **job)
    theirs = multiply(tmp_path / "theirs.npz", 0, columns=columns, **job)
    for n in map(str, columns):
        size = theirs[n].std(axis=1, keepdims=True)
        assert np.abs(ours[n] - theirs[n]).max() <= 1e-4 * size.max()
        assert (np.abs(ours[n] - theirs[n]) <= 1e-4 * size).all()
    # And both are the product, as far as activations of 8 bits allow.
    exact = theirs["exact"]
    assert (np.abs(ours["130"] - exact) <= 0.06 * exact.std(axis=1, keepdims=True)).all()


@pytest.mark.parametrize(("kind", "repacked"), LAYOUTS)
@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_a_column_does_not_depend_on_the_others_nor_on_threads(
    tmp_path: Path, kind: str, repacked: bool, instructions: str
) -> None:
    amx = instructions == "AMX"
    job = {"type": kind, "repacked": repacked, "k": 1024, "rows": 96}
    columns = [2, 3, 7, 12, 13, 17, 40, 100]
    found = multiply(tmp_path / "one.npz", 2, amx, columns=columns, threads=1, **job)
    more = multiply(tmp_path / "more.npz", 2, amx, columns=columns, threads=3, **job)
    for n in columns:
        assert (found[str(n)] == found["100"][:n]).all()
        assert (found[str(n)] == more[str(n)]).all()


@pytest.fixture(scope="module")
def k_quants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of random weights, with rows that K-quants can hold."""
    from convert.export_gguf import main
    from tests.checkpoints import save_checkpoint, tiny_tokenizer

    folder = tmp_path_factory.mktemp("k-quants")
    sizes = {"hidden_size": 256, "intermediate_size": 512}
    base = save_checkpoint(folder / "tiny", "qwen3", tiny_tokenizer(), **sizes)
    assert main(["--base", str(base), "--output", str(folder), "--mode", "adapter"]) == 0
    return folder / "tiny-Q4_K_M.gguf"


def likelihoods(path: Path, mapped: bool) -> np.ndarray:
    """Of tokens after prompts, in calls of several lengths, in nats."""
    model = Model(path, mapped=mapped)
    with Engine(model, EngineOptions(slots=4, cells_per_slot=256)) as engine:
        texts = [list(range(30, 30 + n)) for n in (1, 2, 5, 12, 13, 40, 77)]
        return np.concatenate(engine.log_likelihoods([7, 8, 9], texts))


def test_a_model_of_k_quants_stays_in_its_file_which_processes_share(
    k_quants: Path, demo_model: Path
) -> None:
    with Engine.load(k_quants, EngineOptions(slots=2, cells_per_slot=256)) as engine:
        assert engine.model.mapped
        maps = Path("/proc/self/maps")
        assert not maps.exists() or str(k_quants) in maps.read_text()
    assert not is_best_mapped(demo_model)  # whose kernels want another order of the weights


def test_what_is_likely_is_the_same_mapped_and_repacked_but_for_rounding(k_quants: Path) -> None:
    found, repacked = (likelihoods(k_quants, mapped) for mapped in (True, False))
    assert np.ptp(repacked) > 1
    # Activations are rounded to 8 bits between layers, which turns the last bit of a sum into up
    # to 0.1 nats of this model; llama.cpp's own kernels differ by as much from one another.
    assert np.abs(found - repacked).mean() < 0.03
    assert np.abs(found - repacked).max() < 0.5
