"""Where a model runs, on simulated cards; what its file says that it needs; device profiles."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime import SetupError, loadPipeline
from runtime.engine import Engine, EngineError, EngineOptions, Model, cards, library, profiles
from runtime.engine.cards import Card
from runtime.engine.ggml import read_gguf
from runtime.engine.scheduler import CALL_COST
from runtime.engine.sizing import PADDING_CELLS
from runtime.engine.weights import ModelSizes, read_header, read_sizes
from runtime.setup.devices import RESERVE, Need, Plan, compare, estimate, less, plan
from runtime.setup.placement import Placement, Served
from tests.conftest import small_settings
from tests.ggufs import write_adapter

MIB = 2**20
# Ten layers of 100 MiB with 10 MiB of KV cache each, 50 MiB of output, 20 MiB of results.
SIZES = ModelSizes((100 * MIB,) * 10, 50 * MIB, (10 * 1024,) * 10, 10 * 1024)
NEED = Need(cells=1024, value_bytes=1.0, call_tokens=512)
ALL = 50 + 20 + 10 * 110  # MiB


def card(number: int, free_mib: int) -> Card:
    return Card(f"CUDA{number}", "NVIDIA Test", free_mib * MIB, 80_000 * MIB)


def place(device_map: str, *free_mib: int, most: int = -1, with_cuda: bool = True) -> Plan:
    there = [card(number, free) for number, free in enumerate(free_mib)]
    return plan(device_map, most, with_cuda, there, SIZES, NEED)


def reserved(mib: int) -> int:
    return mib + RESERVE // MIB


@pytest.mark.parametrize("asked", [("cpu", -1), ("auto", 0), ("cuda:0", 0)])
def test_the_cpu_where_it_is_asked_for_whatever_cards_there_are(asked: tuple[str, int]) -> None:
    made = place(asked[0], 80_000, most=asked[1])
    assert (made.gpu_layers, made.cards, made.warns) == (0, (), False)


def test_auto_without_a_card_is_the_cpu_and_a_line_says_why() -> None:
    plain = place("auto", with_cuda=False)
    assert plain.gpu_layers == 0
    assert "built without GPU support (docs/building.md" in plain.says
    no_driver = place("auto")
    assert no_driver.gpu_layers == 0
    assert no_driver.warns
    assert "has CUDA, but finds no GPU or no driver" in no_driver.says


@pytest.mark.parametrize("device_map", ["cuda", "cuda:0"])
@pytest.mark.parametrize(
    ("with_cuda", "reason"), [(False, "built without GPU support"), (True, "no driver")]
)
def test_a_card_that_is_asked_for_where_there_is_none_is_an_error(
    device_map: str, with_cuda: bool, reason: str
) -> None:
    with pytest.raises(SetupError, match=rf"DEVICE_MAP={device_map}: .*{reason}"):
        place(device_map, with_cuda=with_cuda)


def test_a_card_that_does_not_exist_is_an_error_that_lists_those_that_do() -> None:
    with pytest.raises(SetupError, match=r"there are cuda:0 \(NVIDIA Test\), cuda:1 \(NVIDIA T"):
        place("cuda:2", 4000, 4000)


def test_all_layers_and_the_output_lie_on_a_card_with_room() -> None:
    made = place("auto", reserved(ALL))
    assert (made.gpu_layers, made.main_gpu, made.warns) == (11, 0, False)
    assert made.nbytes == reserved(ALL) * MIB
    assert made.says.startswith("11 of 11 layers on CUDA0 (NVIDIA Test), about 1.7 GiB of 1.7")


def test_as_many_as_fit_on_a_card_with_less() -> None:
    made = place("auto", reserved(ALL) - 1)
    assert made.gpu_layers == 10
    assert made.warns
    assert made.says.endswith("more do not fit")
    assert place("cuda:0", reserved(50 + 20 + 3 * 110)).gpu_layers == 4


def test_where_no_layer_fits_auto_takes_the_cpu_and_a_card_by_name_is_an_error() -> None:
    made = place("auto", reserved(60))
    assert made.gpu_layers == 0
    assert made.warns
    with pytest.raises(SetupError, match=r"no layer fits .* CUDA0 has 0\.6 GiB free"):
        place("cuda:0", reserved(60))


def test_n_gpu_layers_is_the_most() -> None:
    made = place("auto", 80_000, most=4)
    assert (made.gpu_layers, made.warns) == (4, False)
    assert place("auto", reserved(50 + 20 + 110), most=4).gpu_layers == 2
    assert place("auto", 80_000, most=1000).gpu_layers == 11


def test_of_several_cards_the_emptiest_that_holds_all_is_used_alone() -> None:
    assert place("auto", 900, 4000, 3000).cards == (1,)
    assert place("cuda", 900, 4000, 3000).main_gpu == 1
    assert place("cuda:2", 900, 4000, 3000).cards == (2,)


def test_what_fits_on_no_single_card_is_split_over_all() -> None:
    made = place("auto", 1500, 1500)
    assert (made.gpu_layers, made.cards, made.main_gpu) == (11, (0, 1), None)
    assert "CUDA0 (NVIDIA Test) and CUDA1" in made.says
    few = place("auto", 1000, 1000)
    assert 0 < few.gpu_layers < 11


def test_cache_results_and_adapters_are_counted() -> None:
    base = estimate(11, SIZES, NEED)
    assert base == ALL * MIB
    assert estimate(11, SIZES, replace(NEED, cells=2048)) == base + 100 * MIB
    assert estimate(11, SIZES, replace(NEED, call_tokens=1024)) == base + 20 * MIB
    assert estimate(11, SIZES, replace(NEED, adapters=30 * MIB)) == base + 30 * MIB
    assert estimate(6, SIZES, replace(NEED, adapters=30 * MIB)) == (50 + 20 + 550 + 15) * MIB


def test_a_model_takes_its_memory_from_those_that_come_after() -> None:
    there = [card(0, 4000), card(1, 3000)]
    made = plan("auto", -1, True, there, SIZES, NEED)
    assert [c.free // MIB for c in less(there, made)] == [4000 - made.nbytes // MIB, 3000]


def test_more_memory_than_was_estimated_is_told() -> None:
    made = plan("auto", -1, True, [card(0, 4000)], SIZES, NEED)
    line, too_much = compare([card(0, 4000)], [card(0, 2200)], made)
    assert (line, too_much) == ("1.8 GiB of GPU memory taken, 1.7 GiB were estimated", False)
    assert compare([card(0, 4000)], [card(0, 1000)], made)[1]


# Of files


def test_a_files_header_says_what_it_needs(demo_model: Path) -> None:
    sizes = read_sizes(demo_model)
    model = Model(demo_model)
    try:
        assert sizes.n_layers == model.n_layers == 31
        assert sum(sizes.cell_values) == model.cell_values
        assert sizes.row_values > model.n_vocab
    finally:
        model.close()
    # Tied embeddings are counted once, with the output; the file has a header besides.
    assert 0.9 < (sum(sizes.layers) + sizes.output) / demo_model.stat().st_size < 1


# Loading


def test_loading_takes_the_cpu_and_says_why_where_a_cuda_build_finds_no_card(
    demo_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("runtime.setup.placement.has_cuda", lambda: True)
    monkeypatch.setattr("runtime.setup.placement.find_cards", list)
    with caplog.at_level(logging.WARNING), loadPipeline(small_settings()) as pipeline:
        (engine,) = pipeline.engines.values()
        assert engine.model.gpu_layers == 0
    assert [r.message for r in caplog.records if "has CUDA, but finds no GPU" in r.message]
    assert len(caplog.records) == 1


def test_loading_asks_for_the_layers_of_the_plan(
    demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a build without CUDA llama.cpp ignores them; what it was asked for is what counts."""
    monkeypatch.setattr("runtime.setup.placement.has_cuda", lambda: True)
    monkeypatch.setattr("runtime.setup.placement.find_cards", lambda: [card(0, 80_000)])
    with loadPipeline(small_settings(n_gpu_layers=5)) as pipeline:
        (engine,) = pipeline.engines.values()
        assert engine.model.gpu_layers == 5
        assert engine.model.profile is profiles.SPLIT


def test_no_card_is_looked_for_where_the_cpu_is_asked_for(
    demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "runtime.setup.placement.find_cards", lambda: pytest.fail("asked for cards")
    )
    loadPipeline(small_settings(device_map="cpu")).close()


def test_this_builds_cards_can_be_asked_for() -> None:
    found = cards.find_cards()
    assert library.has_cuda() or not found
    assert all(0 <= c.free <= c.total for c in found)


def test_models_share_the_memory_that_their_weights_leave(
    demo_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    size = demo_model.stat().st_size
    monkeypatch.setattr("runtime.setup.placement.available_memory", lambda: 4 * size)
    settings = small_settings(device_map="cpu", kv_cache_gb=1.0, prefix_cache_mb=0)
    models = [Served(demo_model, settings)] * 2
    plans = Placement(settings, [demo_model] * 2).place(models)
    assert [made.cache_bytes for made in plans] == [int((0.8 * 4 * size - 2 * size) / 2)] * 2
    assert "GiB of memory are free for the KV cache" in caplog.text
    monkeypatch.setattr("runtime.setup.placement.available_memory", lambda: 2**40)
    plans = Placement(settings, [demo_model] * 2).place(models)
    assert [made.cache_bytes for made in plans] == [2**30] * 2
    assert [made.prefix_bytes for made in plans] == [0, 0]


def test_memory_for_prefixes_is_taken_into_account(
    demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = demo_model.stat().st_size
    settings = small_settings(device_map="cpu", kv_cache_gb=1.0, prefix_cache_mb=40)

    def place(memory: int) -> Plan:
        monkeypatch.setattr("runtime.setup.placement.available_memory", lambda: memory)
        (made,) = Placement(settings, [demo_model]).place([Served(demo_model, settings)])
        return made

    assert place(2**40).prefix_bytes == 40 * MIB
    left = int(0.8 * (size + 100 * MIB)) - size  # too little for both
    made = place(size + 100 * MIB)
    assert made.prefix_bytes == pytest.approx(left / 4, abs=2)
    assert made.cache_bytes == pytest.approx(left * 3 / 4, abs=2)


def test_a_cache_has_room_for_usual_questions_in_all_slots(demo_model: Path) -> None:
    """Where BATCH_SIZE asks for more slots than the usual cache has."""
    sizes = read_sizes(demo_model)
    for slots, most in ((16, None), (240, 248)):
        settings = small_settings(device_map="cpu", batch_size=slots)
        (made,) = Placement(settings, [demo_model]).place([Served(demo_model, settings)])
        cells = made.cache_bytes / (2 * sum(sizes.cell_values))
        assert cells >= 256 * slots
        assert most is None or round(cells) == 256 * most


def test_what_is_not_on_a_card_must_fit_into_memory(
    demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = demo_model.stat().st_size
    monkeypatch.setattr("runtime.setup.placement.has_cuda", lambda: True)
    monkeypatch.setattr("runtime.setup.placement.find_cards", lambda: [card(0, 80_000)])
    monkeypatch.setattr("runtime.setup.placement.available_memory", lambda: size // 2)
    for layers, fits in ((-1, True), (25, True), (2, False)):
        settings = small_settings(n_gpu_layers=layers)
        placement = Placement(settings, [demo_model])
        if fits:
            placement.place([Served(demo_model, settings)])
        else:
            with pytest.raises(SetupError, match=r"1 model files need .* for their weights, but"):
                placement.place([Served(demo_model, settings)])
    with pytest.raises(SetupError, match="for their weights, but"):
        Placement(small_settings(device_map="cpu"), [demo_model])


# Profiles


@pytest.mark.parametrize("profile", [profiles.CPU, profiles.GPU, profiles.SPLIT])
def test_padding_stays_within_the_room_that_slots_have_for_it(
    profile: profiles.DeviceProfile,
) -> None:
    assert profile.rows_at_once + CALL_COST <= PADDING_CELLS


def test_the_profile_follows_the_layers() -> None:
    assert profiles.profile_for(0, 31) is profiles.CPU
    assert profiles.profile_for(0, 31, mapped=True) is profiles.MAPPED_CPU
    assert profiles.profile_for(-1, 31) is profiles.profile_for(31, 31) is profiles.GPU
    assert profiles.profile_for(30, 31) is profiles.SPLIT


def test_the_scheduler_reads_the_profile(demo_model: Path) -> None:
    with Engine.load(demo_model, EngineOptions(slots=12), gpu_layers=-1) as engine:
        assert engine.model.profile is profiles.GPU
        assert [engine._slots.scheduler.padded(n) for n in (1, 2, 3, 9)] == [1, 2, 8, 16]


# On a card


@pytest.mark.gpu
def test_on_a_card_all_layers_are_offloaded_and_the_estimate_holds(
    demo_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), loadPipeline(small_settings(device_map="cuda:0")) as p:
        (engine,) = p.engines.values()
        assert engine.model.profile is profiles.GPU
    (line,) = [r for r in caplog.records if "of GPU memory taken" in r.message]
    assert line.levelno == logging.INFO


@pytest.mark.gpu
def test_on_a_card_the_answers_are_the_cpus_but_for_noise(demo_model: Path) -> None:
    questions = [
        {"questionID": str(n), "subject": "geography", "question": f"What is the capital of {c}?"}
        for n, c in enumerate(["France", "Japan", "Peru", "Kenya", "Canada", "Norway"])
    ]
    said = []
    for device_map in ("cpu", "cuda:0"):
        with loadPipeline(small_settings(device_map=device_map, max_new_tokens=12)) as pipeline:
            said.append([answer["answer"] for answer in pipeline(questions)])
    same = sum(a == b for a, b in zip(*said, strict=True))
    assert same >= len(questions) - 2


@pytest.mark.gpu
def test_on_a_card_a_model_may_be_split_with_the_cpu(demo_model: Path) -> None:
    with loadPipeline(small_settings(device_map="cuda:0", n_gpu_layers=10)) as pipeline:
        (engine,) = pipeline.engines.values()
        assert engine.model.profile is profiles.SPLIT
        assert pipeline([{"questionID": "1", "subject": "history", "question": "Who was Nero?"}])


def test_a_header_is_read_once_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_adapter(tmp_path / "file.gguf")
    read: list[Path] = []

    def counted(path: Path, data: bool = True) -> Any:
        read.append(path)
        return read_gguf(path, data)

    monkeypatch.setattr("runtime.engine.weights.read_gguf", counted)
    first = read_header(path)
    assert read_header(path) == first
    assert len(read) == 1
    assert first.sizes.keys() == first.types.keys() == first.shapes.keys() != set()
    path.write_bytes(path.read_bytes() + b"0")
    assert read_header(path) == first
    assert len(read) == 2
    with pytest.raises(EngineError, match="not a readable GGUF file"):
        read_header(tmp_path / "none.gguf")
