"""A batched generation engine on llama.cpp's C API.

It knows tokens, sequences and adapters. It has never heard of a subject, a
question or an environment variable, and imports nothing from the rest of the
project, so that it can be lifted out and used alone:

    with Engine.load("model.gguf", slots=16, cells_per_slot=512) as engine:
        prompt = engine.model.tokenize("The capital of France is")
        for completion in engine.generate([Request(prompt)]):
            print(completion.text)
"""

from runtime.engine.context import Context
from runtime.engine.engine import Engine, Stats
from runtime.engine.llama import EngineError
from runtime.engine.model import Model
from runtime.engine.sampling import SamplingParams
from runtime.engine.sequence import Completion, Request

__all__ = [
    "Completion",
    "Context",
    "Engine",
    "EngineError",
    "Model",
    "Request",
    "SamplingParams",
    "Stats",
]
