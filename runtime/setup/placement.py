"""Asks what there is of GPUs and files, and has `runtime.setup.devices` decide where models run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from runtime.engine.cards import find_cards
from runtime.engine.context import CACHE_BYTES
from runtime.engine.library import has_cuda
from runtime.engine.sizing import call_tokens, cells_needed, fit_layout, round_up_cells
from runtime.engine.weights import read_sizes
from runtime.settings import Settings
from runtime.setup.devices import Need, Plan, choose_cards, compare, less, plan, why_no_card

log = logging.getLogger(__name__)

# What the KV cache of a model takes at most unless KV_CACHE_GB says so, in bytes: enough for
# 32 slots of 256 tokens of Qwen3-1.7B. Longer questions are served in fewer slots.
_USUAL_CACHE = 1200 * 2**20


def longest(settings: Settings) -> int:
    """Cells that the longest question with its answer may need."""
    answer = max(map(settings.longest_answer_of, [None, *settings.subjects]))
    return cells_needed(settings.max_input_tokens, answer)


def wanted_cache(settings: Settings, cell_values: int) -> float:
    """Bytes that the KV cache of a model may take, with so many numbers for a token."""
    cell_bytes = cell_values * CACHE_BYTES[settings.kv_cache_type]
    # Two slots and a staging slot for the longest questions are there in any case.
    least = 3 * round_up_cells(longest(settings)) * cell_bytes
    return settings.kv_cache_gb * 2**30 or max(_USUAL_CACHE, least)


class Placement:
    """Places models one after another on what the ones before leave free.

    Args:
        settings: for DEVICE_MAP and N_GPU_LAYERS.

    Raises:
        SetupError: DEVICE_MAP names a card that is not there, or there is none.
    """

    def __init__(self, settings: Settings) -> None:
        self._device_map, self._most = settings.device_map, settings.n_gpu_layers
        # With DEVICE_MAP=cpu no driver is woken.
        asked = settings.device_map != "cpu" and settings.n_gpu_layers != 0
        self._with_cuda = asked and has_cuda()
        self._cards = find_cards() if asked else []
        self.on_gpu = asked and bool(
            choose_cards(settings.device_map, self._with_cuda, self._cards)
        )
        if asked and not self.on_gpu:
            # That of a build for the CPU alone is no news, but where somebody has built for a
            # GPU, it is.
            log.log(
                logging.WARNING if self._with_cuda else logging.INFO,
                "models run %s",
                why_no_card(self._with_cuda),
            )

    def place(self, settings: Settings, path: Path, adapters: Sequence[Path] = ()) -> Plan:
        """Where a model runs; its memory counts as taken for those that come after.

        Args:
            settings: as tuned for the file.
            path: the model.
            adapters: on it.

        Raises:
            SetupError: no layer fits on the card that DEVICE_MAP names.
            EngineError: the file cannot be read.
        """
        if not self.on_gpu:
            return Plan(0, (), 0, "on the CPU")
        sizes = read_sizes(path)
        cell_bytes = CACHE_BYTES[settings.kv_cache_type]
        values = max(1, sum(sizes.cell_values))
        layout = fit_layout(longest(settings), settings.batch_size)
        wanted = wanted_cache(settings, values)
        need = Need(
            cells=min(layout.total_cells, int(wanted / (values * cell_bytes))),
            value_bytes=cell_bytes,
            call_tokens=call_tokens(settings.prefill_tokens, layout.sequences),
            adapters=sum(adapter.stat().st_size for adapter in adapters),
        )
        made = plan(self._device_map, self._most, self._with_cuda, self._cards, sizes, need)
        log.log(logging.WARNING if made.warns else logging.INFO, "%s: %s", path.name, made.says)
        self._before = find_cards()
        if made.cards:
            self._cards = less(self._cards, made)
        return made

    def check(self, path: Path, made: Plan) -> None:
        """Say what a model that has been loaded took, beside what was estimated for it."""
        if made.cards:
            line, too_much = compare(self._before, find_cards(), made)
            log.log(logging.WARNING if too_much else logging.INFO, "%s: %s", path.name, line)
