"""Whether models fit, where they run and how much memory their KV caches may take, before loading.

It finds out about GPUs, memory and files; `runtime.setup.devices` decides about layers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.common.errors import SetupError
from runtime.common.machine import available_memory
from runtime.engine.cards import find_cards
from runtime.engine.context import CACHE_BYTES
from runtime.engine.library import has_cuda
from runtime.engine.sizing import call_tokens, cells_needed, fit_layout, round_up_cells
from runtime.engine.weights import ModelSizes, read_sizes
from runtime.settings import Settings
from runtime.setup.devices import Need, Plan, choose_cards, compare, less, plan, why_no_card

log = logging.getLogger(__name__)

# The most bytes of a model's KV cache unless KV_CACHE_GB says otherwise, or BATCH_SIZE usual
# questions need more. Longer questions are served in fewer slots.
_USUAL_CACHE = 1200 * 2**20
# Question and template of most questions, in tokens.
_USUAL_PROMPT = 100
# The most that weights and KV caches together may take of free memory.
_MEMORY_SHARE = 0.8
# Of what the weights leave of that, what prefixes may be kept in.
_PREFIX_SHARE = 0.25


@dataclass(frozen=True)
class Served:
    """A model file to place, with settings as tuned for it and its GGUF adapters."""

    path: Path
    settings: Settings
    adapters: tuple[Path, ...] = ()


class Placement:
    """Places models on GPUs and in memory; `paths` are all that will be placed.

    Raises:
        SetupError: DEVICE_MAP names a card that is not there, or there is none; or the models
            do not fit into memory.
    """

    def __init__(self, settings: Settings, paths: Sequence[Path]) -> None:
        self._device_map, self._most = settings.device_map, settings.n_gpu_layers
        # With DEVICE_MAP=cpu no driver is woken.
        asked = settings.device_map != "cpu" and settings.n_gpu_layers != 0
        self._with_cuda = asked and has_cuda()
        self._cards = find_cards() if asked else []
        self._on_gpu = asked and bool(
            choose_cards(settings.device_map, self._with_cuda, self._cards)
        )
        if asked and not self._on_gpu:
            # Where llama.cpp was built for a GPU, the CPU is a surprise.
            level = logging.WARNING if self._with_cuda else logging.INFO
            log.log(level, "models run %s", why_no_card(self._with_cuda))
        self._memory = available_memory()
        if not self._on_gpu:
            self._refuse_too_large([path.stat().st_size for path in paths])

    def place(self, models: Sequence[Served]) -> list[Plan]:
        """Where each model runs, and the most bytes of its KV cache.

        Raises:
            SetupError: no layer fits on the card that DEVICE_MAP names, or what is not on cards
                does not fit into memory.
            EngineError: a file that cannot be read.
        """
        sizes = [read_sizes(model.path) for model in models]
        plans = [self._plan(*each) for each in zip(models, sizes, strict=True)]
        # What llama.cpp keeps in this machine's memory of models that are partly on cards.
        weights = [
            int(model.path.stat().st_size * (1 - made.gpu_layers / of_it.n_layers))
            for model, made, of_it in zip(models, plans, sizes, strict=True)
        ]
        n_bytes = sum(weights)
        log.info("%d model files need %.1f GiB for their weights", len(weights), n_bytes / 2**30)
        self._refuse_too_large(weights)
        on_cpu = sum(not made.gpu_layers for made in plans)
        free = max(0.0, self._memory * _MEMORY_SHARE - n_bytes)
        # Prefixes are kept in main memory also where the model is on a GPU.
        prefixes = [model.settings.prefix_cache_mb * 2**20 for model in models]
        granted = min(1.0, _PREFIX_SHARE * free / max(1, sum(prefixes)))
        prefixes = [int(granted * each) for each in prefixes]
        free = (free - sum(prefixes)) / max(1, on_cpu)
        return [
            replace(made, cache_bytes=_cache_bytes(model, of_it, made, free), prefix_bytes=kept)
            for model, made, of_it, kept in zip(models, plans, sizes, prefixes, strict=True)
        ]

    def _plan(self, model: Served, sizes: ModelSizes) -> Plan:
        """The layers of a model on cards, whose memory then counts as taken."""
        if not self._on_gpu:
            return Plan(0, (), 0, "on the CPU")
        settings = model.settings
        value_bytes = CACHE_BYTES[settings.kv_cache_type]
        values = max(1, sum(sizes.cell_values))
        layout = fit_layout(longest(settings), settings.batch_size)
        affordable = int(_wanted_cache(settings, sizes) / (values * value_bytes))
        need = Need(
            cells=min(layout.total_cells, affordable),
            value_bytes=value_bytes,
            call_tokens=call_tokens(settings.prefill_tokens, layout.sequences),
            adapters=sum(adapter.stat().st_size for adapter in model.adapters),
        )
        made = plan(self._device_map, self._most, self._with_cuda, self._cards, sizes, need)
        level = logging.WARNING if made.warns else logging.INFO
        log.log(level, "%s: %s", model.path.name, made.says)
        if made.cards:
            self._cards = less(self._cards, made)
        return made

    def _refuse_too_large(self, weights: Sequence[int]) -> None:
        """Raises SetupError if weights, in bytes of each model, do not fit into memory."""
        needed = sum(weights)
        if needed > self._memory:
            raise SetupError(
                f"{len(weights)} model files need {needed / 2**30:.1f} GiB for their weights, but"
                f" only {self._memory / 2**30:.1f} GiB of memory are free: serve adapters on one"
                " base instead (python -m convert.export_gguf --mode adapter)"
            )


@contextmanager
def watched(path: Path, made: Plan) -> Iterator[None]:
    """Log how much GPU memory the block took to load a model, beside what was estimated."""
    before = find_cards() if made.cards else []
    yield
    if made.cards:
        line, too_much = compare(before, find_cards(), made)
        log.log(logging.WARNING if too_much else logging.INFO, "%s: %s", path.name, line)


def longest(settings: Settings) -> int:
    """Cells that the longest question with its answer may need."""
    answer = max(map(settings.longest_answer_of, [None, *settings.subjects]))
    wanted = max(settings.max_model_len, settings.max_input_tokens + answer)
    return cells_needed(wanted, 0)


def usual(settings: Settings) -> int:
    """Cells that most questions with their answers need."""
    return cells_needed(_USUAL_PROMPT, settings.longest_answer)


def _wanted_cache(settings: Settings, sizes: ModelSizes) -> float:
    """Bytes of the KV cache that a model should have."""
    cell_bytes = sum(sizes.cell_values) * CACHE_BYTES[settings.kv_cache_type]
    # Two slots and a staging slot for the longest questions are there in any case.
    least = 3 * round_up_cells(longest(settings))
    slots = fit_layout(usual(settings), settings.batch_size).total_cells
    return settings.kv_cache_gb * 2**30 or max(_USUAL_CACHE, max(least, slots) * cell_bytes)


def _cache_bytes(model: Served, sizes: ModelSizes, made: Plan, free: float) -> int:
    """The most bytes of a model's KV cache, where `free` bytes of memory are left for it."""
    wanted = _wanted_cache(model.settings, sizes)
    if made.gpu_layers or wanted <= free:
        return int(wanted)
    log.warning(
        "%.1f GiB of memory are free for the KV cache of %s, which should have %.1f GiB: fewer"
        " questions are answered at once. KV_CACHE_TYPE=q8_0, a smaller MAX_INPUT_TOKENS or"
        " MAX_NEW_TOKENS need less.",
        free / 2**30,
        model.path.name,
        wanted / 2**30,
    )
    return int(free)
