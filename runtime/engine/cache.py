"""The KV cache of an engine: its context, resized when requests need it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from runtime.engine.context import CACHE_BYTES, Context
from runtime.engine.llama import EngineError
from runtime.engine.model import Model
from runtime.engine.options import EngineOptions
from runtime.engine.shape import shape_for
from runtime.engine.sizing import Layout, call_tokens, fit_layout

log = logging.getLogger(__name__)


class Cache:
    """Owns the current llama.cpp context, which `resize` and `renew` replace.

    Raises:
        EngineError: no context could be made, or none for batch-invariant calls.
    """

    def __init__(self, model: Model, options: EngineOptions) -> None:
        self._model = model
        self._options = options
        self.shape = shape_for(options.batch_invariant, model.gpu_layers)
        self._affordable: int | None = None
        if options.cache_bytes is not None:
            cell = model.cell_values * CACHE_BYTES[options.cache_type]
            self._affordable = int(options.cache_bytes / cell)
        self._most_slots = options.slots
        # The same whatever the layout, so that the engine's batches fit all of them.
        most = fit_layout(options.cells_per_slot, options.slots)
        self._call_tokens = call_tokens(options.call_tokens, most.sequences)
        cells = options.cells_per_slot
        if self.can_resize:
            cells = min(cells, options.usual_cells)
        self.layout = self.layout_for(cells, options.slots)
        while True:
            try:
                self.context = self._new_context(self.layout)
                break
            except EngineError:  # such as too little memory on a GPU, which only llama.cpp knows
                if self.layout.slots == 1:
                    raise
                self._most_slots = self.layout.slots // 2
                log.warning("%d slots do not fit: trying %d", self.layout.slots, self._most_slots)
                self.layout = self.layout_for(cells, self._most_slots)

    @property
    def can_resize(self) -> bool:
        """Whether the layout may change with the requests."""
        return self._affordable is not None and self._model.can_resize

    def layout_for(self, cells: int, slots: int) -> Layout:
        """The layout for up to `slots` slots of at least `cells` cells, as far as memory allows."""
        layout = fit_layout(cells, min(slots, self._most_slots), self._affordable)
        slots = self.shape.slots(layout.slots)
        return layout if slots == layout.slots else fit_layout(cells, slots)

    def resize(self, layout: Layout, moves: Sequence[tuple[int, int]]) -> None:
        """Make a context of another layout; `moves` are (old slot, new slot) of kept content.

        Raises:
            EngineError: there is no memory for it; the old layout is restored, unless
                `context.closed`.
        """
        saved = [self.context.save(source) for source, _ in moves]
        self.context.close()
        targets = [target for _, target in moves]
        failure: EngineError | None = None
        try:
            context = self._new_context(layout)
        except EngineError as error:
            failure = error
            self._most_slots = min(self._most_slots, self.layout.slots)
            layout, targets = self.layout, [source for source, _ in moves]
            context = self._new_context(layout)
        self.context, self.layout = context, layout
        try:
            for target, state in zip(targets, saved, strict=True):
                context.restore(target, state)
        except EngineError:
            context.close()  # what the slots held is lost, and so are all answers in progress
            raise
        if failure:
            raise failure

    def renew(self) -> None:
        """Make an empty context of the same layout, after the model's adapters have changed.

        Raises:
            EngineError: there is not enough memory.
        """
        self.context.close()
        self.context = self._new_context(self.layout)

    def _new_context(self, layout: Layout) -> Context:
        options = self._options
        shortlist = options.shortlist
        return Context(
            self._model,
            layout.slots,
            layout.staging,
            layout.cells,
            options.threads,
            flash_attention="on" if options.batch_invariant else options.flash_attention,
            max_tokens=self._call_tokens,
            cache_type=options.cache_type,
            mix=self._model.stack is not None,
            shortlist=self._model.profile.shortlist if shortlist is None else shortlist,
        )
