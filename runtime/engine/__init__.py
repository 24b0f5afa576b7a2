"""A batched generation engine on llama.cpp's C API.

It knows tokens, generations and adapters. It has never heard of a subject, a question or an
environment variable, and imports nothing from the rest of the project, so that it can be
lifted out and used alone:

    with Engine.load("model.gguf", EngineOptions(slots=16)) as engine:
        prompt = engine.model.tokenize("The capital of France is")
        for completion in engine.generate([Request(prompt)]):
            print(completion.text)

Requests may come and go while it runs:

    number = engine.add(Request(prompt))
    while engine.has_work:
        for update in engine.step():
            print(update.index, update.text)

The rooms, from the bottom up: `llama` (handles, the log), `model`, `adapters`, `context`,
`batch`; `sampling`; `generation` (a request from first to last), `waiting` (whose turn it is),
`scheduler` (which step is next), `sizing` and `cache` (how many slots of what length),
`runner` (carries steps out), `profiles` (what differs on a GPU), `prefixes` and `sharing`;
`engine`. Beside them `speeds` times single calls, `probe` tries files in a process of its own,
`cards` lists GPUs, and `weights` says what a file needs of one.
"""

from typing import TYPE_CHECKING

from runtime.common.doors import lazy

# Sets what llama.cpp's libraries read when they are loaded: before any module here loads them.
from runtime.engine.library import describe_build

if TYPE_CHECKING:
    from runtime.engine.context import Context
    from runtime.engine.engine import Engine
    from runtime.engine.generation import Completion, Request, Update
    from runtime.engine.llama import EngineError, check_gguf, physical_cores
    from runtime.engine.model import Model
    from runtime.engine.options import EngineOptions
    from runtime.engine.sampling import Choice, SamplingParams
    from runtime.engine.stats import Stats
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "runtime.engine.context": ["Context"],
            "runtime.engine.engine": ["Engine"],
            "runtime.engine.generation": ["Completion", "Request", "Update"],
            "runtime.engine.llama": ["EngineError", "check_gguf", "physical_cores"],
            "runtime.engine.model": ["Model"],
            "runtime.engine.options": ["EngineOptions"],
            "runtime.engine.sampling": ["Choice", "SamplingParams"],
            "runtime.engine.stats": ["Stats"],
        },
    )

__all__ = [
    "Choice",
    "Completion",
    "Context",
    "Engine",
    "EngineError",
    "EngineOptions",
    "Model",
    "Request",
    "SamplingParams",
    "Stats",
    "Update",
    "check_gguf",
    "describe_build",
    "physical_cores",
]
