"""The real demo model, made once, and engines and pipelines on it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# With a worker for each core (pytest -n), threads in each would only wait for one another. Must
# be set before an OpenMP runtime is loaded; processes that tests start inherit it. The limit is
# for llama.cpp; torch must be told apart, as its products in bfloat16 are wrong where it gets fewer
# threads than it counts on.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_THREAD_LIMIT", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from runtime import Pipeline, Settings, loadPipeline
from runtime.engine import Engine, EngineOptions
from runtime.engine.cards import find_cards
from runtime.files import demo
from runtime.settings import PROJECT_DIR, all_settings

if TYPE_CHECKING:
    from tests.checkpoints import Base

# Fixtures that a few modules share are in a module beside them, which they name in
# `pytest_plugins`. What such modules assert is explained as well as what tests assert.
pytest.register_assert_rewrite(
    *(
        f"tests.{path.stem}"
        for path in Path(__file__).parent.glob("*.py")
        if not path.stem.startswith(("test_", "conftest", "_"))
    )
)

# A shell without job control starts programs in the background with Ctrl-C ignored, and so would
# the commands be that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine may be slow at any moment, so no example of a property has a time limit.
with contextlib.suppress(ModuleNotFoundError, AttributeError):  # `make test-fast` goes without
    import hypothesis

    hypothesis.settings.register_profile("no deadline", deadline=None)
    hypothesis.settings.load_profile("no deadline")

SAMPLES = PROJECT_DIR / "data" / "sample_questions.jsonl"
LORAS = PROJECT_DIR / "loras"


@pytest.fixture(autouse=True, scope="session")
def _plain_environment() -> Iterator[None]:
    """Settings set in the shell do not reach the tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for setting in all_settings():
            monkeypatch.delenv(setting.name, raising=False)
        yield


@pytest.hookimpl(trylast=True)  # after `-m` has had its say
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where llama.cpp finds no GPU; modules with slow tests come first.

    Then no worker has a slow module left when the others are done. A test marked `quick` is left
    out where its slow form, which does the same and more, is run.
    """
    whole = {_function(item) for item in items if item.get_closest_marker("slow")}
    needless = [
        item for item in items if item.get_closest_marker("quick") and _function(item) in whole
    ]
    if needless:
        config.hook.pytest_deselected(items=needless)
        items[:] = [item for item in items if item not in needless]
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not find_cards():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="llama.cpp finds no GPU here"))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def _function(item: pytest.Item) -> str:
    """A test without its parameters."""
    return item.nodeid.partition("[")[0]


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The demo model's GGUF file."""
    return demo.ensure(PROJECT_DIR / "models")


@pytest.fixture(scope="session")
def shallow_model(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with a few of its layers: quicker, and what it says has no sense.

    It has the demo's name, so that it is the demo where its folder is `MODELS_DIR`.
    """
    from tests.shallow import shallow

    return shallow(demo_model, tmp_path_factory.mktemp("shallow") / demo_model.name)


@pytest.fixture(scope="session")
def shallow_loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same layers of the demo's adapters."""
    from tests.shallow import shallow

    folder = tmp_path_factory.mktemp("shallow-loras")
    for path in LORAS.glob("*.gguf"):
        shallow(path, folder / path.name)
    return folder


@pytest.fixture(scope="session")
def engine(demo_model: Path) -> Iterator[Engine]:
    """An engine with 4 slots of 512 tokens."""
    with Engine.load(demo_model, EngineOptions(slots=4, cells_per_slot=512)) as engine:
        yield engine


@pytest.fixture(scope="session")
def shallow_engine(shallow_model: Path) -> Iterator[Engine]:
    """The same, on the shallow model."""
    with Engine.load(shallow_model, EngineOptions(slots=4, cells_per_slot=512)) as engine:
        yield engine


def small_settings(**overrides: object) -> Settings:
    """The demo model, greedy, with short answers and few slots; it answers exercises itself.

    The tool that computes them would take a process and a second of CPU for each pipeline.
    """
    values: dict[str, object] = {
        "model_name": "demo",
        "batch_size": 8,
        "max_new_tokens": 24,
        "min_new_tokens": 0,
        "max_input_tokens": 256,
        "temperature": 0.0,
        "algebra_tool": "off",
        "offline_guard": "off",  # tests of the guard hold their own
    }
    return Settings.load(**(values | overrides))


@pytest.fixture(scope="session")
def pipeline(demo_model: Path) -> Iterator[Pipeline]:
    """A pipeline with `small_settings`, and exercises computed."""
    with loadPipeline(small_settings(algebra_tool="exact")) as pipeline:
        yield pipeline


# Transformers and torch are imported by those alone who want a checkpoint.


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A tokenizer of a few hundred tokens."""
    from tests.checkpoints import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture(scope="session")
def tiny(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 checkpoint with random weights, called tiny-chat."""
    from tests.checkpoints import save_checkpoint

    return save_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny-chat", "qwen3", tokenizer)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    """A base of each architecture that most tests use, and a Llama with biases."""
    from tests.checkpoints import tiny_bases

    return tiny_bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="session")
def checkpoints(bases: dict[str, Base]) -> dict[str, Path]:
    """The folders of `bases`."""
    return {name: base.folder for name, base in bases.items()}
