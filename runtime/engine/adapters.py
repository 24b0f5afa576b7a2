"""Load and free a model's adapters; stack them where mixing them in one call pays."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from runtime.engine.llama import EngineError
from runtime.engine.mixing import worth_mixing
from runtime.engine.model import Model

log = logging.getLogger(__name__)


def set_adapters(model: Model, adapters: Mapping[str, Path], may_mix: bool) -> None:
    """Load the adapters that the model lacks, and free those that are not in `adapters`.

    They are stacked, too, where mixing pays. The model must have no context.

    Raises:
        EngineError: a file is not an adapter for the model; the others stay loaded.
    """
    if model.stack is not None:
        model.drop_stack()
    for name in model.adapters:
        if name not in adapters:
            model.unload_adapter(name)
    for name, path in adapters.items():
        if name not in model.adapters:
            model.load_adapter(name, path)
    if not may_mix or len(adapters) < 2:
        return
    try:
        stack = model.load_stack(adapters)
    except EngineError as error:
        log.info("adapters take turns: %s", error)
        return
    if not worth_mixing(stack, model.n_parameters):
        log.info("adapters take turns: together they are too large to be mixed")
        model.drop_stack()
