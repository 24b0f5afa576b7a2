"""Tokens of one call can each use another adapter, and none notices the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from runtime.engine import Context, EngineError, Model, lora_rows
from runtime.engine.batch import Batch
from runtime.engine.mixing import BARE, RANK_STEP, write_stack
from runtime.settings import PROJECT_DIR

WIDTH, FEED_FORWARD, KV, LAYERS, VOCAB = 64, 128, 32, 3, 300
LINEAR = {  # rows, columns
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (KV, WIDTH),
    "attn_v": (KV, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (FEED_FORWARD, WIDTH),
    "ffn_up": (FEED_FORWARD, WIDTH),
    "ffn_down": (WIDTH, FEED_FORWARD),
}
# Ranks that differ, one of them over RANK_STEP, and one adapter for a part of the layers alone.
ADAPTERS = {
    "one": (4, tuple(LINEAR)),
    "two": (20, tuple(LINEAR)),
    "part": (3, ("attn_q", "ffn_up")),
}
TOLERANCE = 1e-3


def write_model(path: Path) -> Path:
    """A llama of random float32 weights, on which nothing is rounded."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{n}" for n in range(VOCAB)])
    writer.add_token_types([1] * VOCAB)
    writer.add_token_merges(["t 0"])
    writer.add_eos_token_id(0)
    writer.add_tensor("token_embd.weight", random.normal(0, 1, (VOCAB, WIDTH)).astype(np.float32))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(WIDTH, np.float32))
        for name, shape in LINEAR.items():
            weight = random.normal(0, 0.15, shape).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.{name}.weight", weight)
    return finish(writer, path)


def write_adapter(
    path: Path, rank: int, modules: tuple[str, ...], seed: int, dtype: type = np.float32
) -> Path:
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for layer in range(LAYERS):
        for module in modules:
            rows, columns = LINEAR[module]
            for part, shape in (("a", (rank, columns)), ("b", (rows, rank))):
                weight = random.normal(0, 0.15, shape).astype(dtype)
                writer.add_tensor(f"blk.{layer}.{module}.weight.lora_{part}", weight)
    return finish(writer, path)


def finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny model and its adapters."""
    folder = tmp_path_factory.mktemp("mixing")
    adapters = {
        name: write_adapter(folder / f"{name}.gguf", rank, modules, seed)
        for seed, (name, (rank, modules)) in enumerate(ADAPTERS.items(), 1)
    }
    return {"model": write_model(folder / "model.gguf"), **adapters}


@pytest.fixture(scope="module")
def model(paths: dict[str, Path]) -> Iterator[Model]:
    """With the stack, and with each adapter by itself."""
    model = Model(paths["model"])
    model.load_stack({name: paths[name] for name in ADAPTERS})
    for name in ADAPTERS:
        model.load_adapter(name, paths[name])
    yield model
    model.close()


def context(model: Model, mix: bool) -> Context:
    return Context(
        model, slots=8, staging=1, cells_per_slot=64, threads=1, cache_type="f32", mix=mix
    )


@pytest.fixture(params=["inside llama.cpp", "by a callback"])
def mixed(
    model: Model, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Context]:
    """A context that mixes by the patch's functions, or as on an unmodified llama.cpp."""
    if request.param == "by a callback":
        monkeypatch.setattr(lora_rows, "available", lambda: False)
    elif not lora_rows.available():
        pytest.skip("llama.cpp was built without the patch, or for another CPU")
    made = context(model, mix=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def single(model: Model) -> Iterator[Context]:
    made = context(model, mix=False)
    yield made
    made.close()


def tokens(n: int, length: int) -> np.ndarray:
    return np.random.default_rng(n).integers(1, VOCAB, (n, length))


def alone(single: Context, prompt: np.ndarray, adapter: str | None) -> np.ndarray:
    """Logits [len(prompt), vocab] of one prompt with one adapter."""
    single.clear_all()
    n = len(prompt)
    batch = Batch(64).fill(prompt, np.arange(n), 0, 1)
    return single.run(batch, adapter=adapter).logits.copy()


def run(
    mixed: Context, adapters: list[int], prompts: np.ndarray, start: int, outputs: np.ndarray
) -> np.ndarray:
    """Logits [outputs.sum(), vocab] of equally long pieces of prompts, one per slot."""
    n, length = prompts.shape
    position = np.tile(np.arange(start, start + length), n)
    slots = np.repeat(np.arange(n), length)
    batch = Batch(64).fill(prompts.ravel(), position, slots, outputs.ravel())
    return mixed.run(batch, mixed=np.repeat(adapters, length)).logits


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()


def test_logits_are_those_of_each_adapter_alone(
    model: Model, mixed: Context, single: Context
) -> None:
    """Prompts with some outputs, others without any, then one token of each at a time."""
    names = ["one", "two", "part", None, "one", None, "two", "part"]
    assert model.stack is not None
    indices = [model.stack.index(name) for name in names]
    prompts = tokens(8, 9)
    expected = np.stack([alone(single, p, n) for p, n in zip(prompts, names, strict=True)])
    outputs = np.zeros((8, 4), int)
    assert run(mixed, indices, prompts[:, :3], 0, outputs[:, :3]).shape == (0, VOCAB)
    outputs[::2, 3] = outputs[3, 1] = 1
    logits = run(mixed, indices, prompts[:, 3:7], 3, outputs)
    assert_close(logits, expected[:, 3:7][outputs == 1])
    for at in (7, 8):
        logits = run(mixed, indices, prompts[:, at : at + 1], at, np.ones((8, 1), int))
        assert_close(logits, expected[:, at])


@pytest.mark.parametrize("names", [[None] * 4, ["two"] * 4, ["part"]])
def test_tokens_that_all_use_one_adapter_or_none(
    model: Model, mixed: Context, single: Context, names: list[str | None]
) -> None:
    assert model.stack is not None
    prompts = tokens(len(names), 5)
    indices = [model.stack.index(name) for name in names]
    logits = run(mixed, indices, prompts, 0, np.ones(prompts.shape, int))
    expected = [alone(single, p, n) for p, n in zip(prompts, names, strict=True)]
    assert_close(logits, np.concatenate(expected))


def test_the_adapters_of_the_test_do_change_the_logits(single: Context) -> None:
    prompt = tokens(1, 5)[0]
    bare = alone(single, prompt, None)
    for name in ADAPTERS:
        assert np.abs(alone(single, prompt, name) - bare).max() > 0.05 * np.abs(bare).max()


def test_an_adapter_can_change_its_neighbours_and_nothing_changes(
    mixed: Context, model: Model
) -> None:
    """Another neighbour's adapter changes no bit of the first row."""
    assert model.stack is not None
    prompts = tokens(4, 3)
    rows = []
    for neighbours in ([0, 0, 0], [1, 2, BARE]):
        mixed.clear_all()
        rows.append(run(mixed, [1, *neighbours], prompts, 0, np.ones((4, 3), int))[:3].copy())
    np.testing.assert_array_equal(rows[0], rows[1])


def test_one_context_can_mix_and_apply_a_single_adapter_in_turn(
    mixed: Context, single: Context
) -> None:
    prompt = tokens(1, 5)[0]
    for _ in range(2):
        mixed.clear_all()
        run(mixed, [0, 1], tokens(2, 4), 0, np.ones((2, 4), int))
        assert_close(alone(mixed, prompt, "two"), alone(single, prompt, "two"))


def test_a_call_that_llama_computes_in_parts_is_refused(mixed: Context) -> None:
    """Slots with a gap between them; the context goes on after it."""
    batch = Batch(8).fill([5, 6, 7], [0, 0, 0], [0, 1, 5], [1, 1, 1])
    with pytest.raises(EngineError, match="could not be mixed"):
        mixed.run(batch, mixed=[0, 1, BARE])
    mixed.clear_all()
    run(mixed, [0, 1], tokens(2, 4), 0, np.ones((2, 4), int))


def test_an_interrupt_inside_llama_reaches_the_caller(
    mixed: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    assert mixed._mixer is not None
    if mixed._mixer.callback is None:
        pytest.skip("no Python runs inside")
    monkeypatch.setattr(mixed._mixer._masks, "apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(mixed, [0, 1], tokens(2, 4), 0, np.ones((2, 4), int))


def test_wrong_assignments_are_refused(mixed: Context, single: Context) -> None:
    batch = Batch(8).fill([5, 6], [0, 0], [0, 1], [1, 1])
    for wrong in ([0], [0, len(ADAPTERS)], [0, -2]):
        with pytest.raises(ValueError, match="adapters"):
            mixed.run(batch, mixed=wrong)
    with pytest.raises(EngineError, match="mix=True"):
        single.run(batch, mixed=[0, 1])


def test_a_context_cannot_mix_without_a_stack(paths: dict[str, Path]) -> None:
    model = Model(paths["model"])
    with pytest.raises(EngineError, match="load_stack"):
        context(model, mix=True)
    model.close()


def test_what_a_stack_says_of_itself(paths: dict[str, Path], tmp_path: Path) -> None:
    stack = write_stack({name: paths[name] for name in ADAPTERS}, tmp_path / "stack.gguf")
    assert stack.names == tuple(ADAPTERS)
    assert [rows.stop - rows.start for rows in stack.rows] == [4, 20, 3]
    assert stack.rank % RANK_STEP == 0
    assert stack.rank >= 27
    assert stack.n_modules == LAYERS * len(LINEAR)
    assert stack.nbytes == 4 * stack.n_parameters
    assert 0 < stack.nbytes < (tmp_path / "stack.gguf").stat().st_size
    assert stack.index(None) == BARE
    assert stack.index("part") == 2
    with pytest.raises(EngineError, match="'other'"):
        stack.index("other")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_adapters_may_be_of_16_or_32_bits(
    paths: dict[str, Path], tmp_path: Path, dtype: type
) -> None:
    """The stacked file holds s B A of the adapter, as the gguf package reads it."""
    path = write_adapter(tmp_path / "a.gguf", 4, ("attn_k",), 5, dtype)
    write_stack({"a": paths["one"], "b": path}, tmp_path / "stack.gguf")
    name = "blk.1.attn_k.weight.lora_"
    theirs = {t.name: t.data.astype(np.float64) for t in gguf.GGUFReader(path).tensors}
    ours = {
        t.name: t.data.astype(np.float64) for t in gguf.GGUFReader(tmp_path / "stack.gguf").tensors
    }
    product = ours[name + "b"][:, 4:8] @ ours[name + "a"][4:8]
    np.testing.assert_allclose(product, 2 * theirs[name + "b"] @ theirs[name + "a"], rtol=1e-6)


def test_a_stack_has_16_bits_where_no_value_changes(paths: dict[str, Path], tmp_path: Path) -> None:
    half = write_adapter(tmp_path / "half.gguf", 4, ("attn_k",), 5, np.float16)
    odd = write_adapter(tmp_path / "odd.gguf", 3, ("attn_k",), 6, np.float16)  # a scale of 8 / 3
    for others, bytes_each in (([half], 2), ([half, odd], 4), ([half, paths["one"]], 4)):
        files = {path.stem: path for path in others}
        stack = write_stack(files, tmp_path / "stack.gguf", None)
        assert stack.nbytes == bytes_each * stack.n_parameters


def test_what_cannot_be_stacked_is_named(paths: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "stack.gguf"
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(paths["one"].read_bytes()[:2000])
    infinite = write_adapter(tmp_path / "infinite.gguf", 4, ("attn_q",), 6)
    raw = bytearray(infinite.read_bytes())
    raw[-4:] = np.float32(np.inf).tobytes()
    infinite.write_bytes(raw)
    for path, problem in (
        (broken, "not a readable GGUF file"),
        (tmp_path / "none.gguf", "no such file"),
        (paths["model"], "not a LoRA adapter"),
        (infinite, "not finite"),
    ):
        with pytest.raises(EngineError, match=problem) as raised:
            write_stack({"one": paths["one"], "other": path}, out)
        assert path.name in str(raised.value)
    with pytest.raises(EngineError, match="no adapters"):
        write_stack({}, out)


def test_loading_a_stack_leaves_no_file_behind(
    paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = Model(paths["model"])
    model.load_stack({"one": paths["one"]})
    with pytest.raises(EngineError, match="not a LoRA adapter"):
        model.load_stack({"model": paths["model"]})
    with pytest.raises(EngineError, match="already"):
        model.load_stack({"one": paths["one"]})
    model.close()
    assert list(tmp_path.iterdir()) == []


def test_greedy_texts_of_the_demos_adapters_are_those_of_turns(demo_model: Path) -> None:
    """The demo model is quantized, so that noise may decide a near-tie; nothing else may."""
    files = sorted((PROJECT_DIR / "loras").glob("*.gguf"))
    assert len(files) == 5
    model = Model(demo_model)
    names = [file.stem for file in files]
    model.load_stack(dict(zip(names, files, strict=True)))
    for name, file in zip(names, files, strict=True):
        model.load_adapter(name, file)
    prompt = model.tokenize("Question: Who was the first president of the United States?\nAnswer:")
    rows = [*range(5), BARE]
    ours = greedy(model, [prompt] * 6, rows)
    for row in rows:
        theirs = greedy(model, [prompt], None, None if row == BARE else names[row])[0]
        assert_equal_but_for_ties(ours[row if row != BARE else 5], theirs)
    model.close()


Steps = list[tuple[int, np.ndarray]]  # token and the logits that it was chosen by


def greedy(
    model: Model, prompts: list[list[int]], rows: list[int] | None, adapter: str | None = None
) -> list[Steps]:
    """Eight tokens of each prompt, all of one length."""
    n, length = len(prompts), len(prompts[0])
    made = Context(model, n, 1, 64, 1, mix=rows is not None)
    batch = Batch(n * length)
    outputs = np.zeros((n, length), int)
    outputs[:, -1] = 1
    steps: list[Steps] = [[] for _ in range(n)]
    feed, start = np.array(prompts), 0
    for _ in range(8):
        width = feed.shape[1]
        position = np.tile(np.arange(start, start + width), n)
        batch.fill(feed.ravel(), position, np.repeat(np.arange(n), width), outputs.ravel())
        used = None if rows is None else np.repeat(rows, width)
        logits = made.run(batch, adapter=adapter, mixed=used).logits.copy()
        chosen = logits.argmax(1)
        for step, token, row in zip(steps, chosen, logits, strict=True):
            step.append((int(token), row))
        feed, start, outputs = chosen[:, None], start + width, np.ones((n, 1), int)
    made.close()
    return steps


def assert_equal_but_for_ties(ours: Steps, theirs: Steps) -> None:
    for (a, _), (b, logits) in zip(ours, theirs, strict=True):
        if a != b:
            assert logits[b] - logits[a] < 0.5
            return
