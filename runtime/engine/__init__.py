"""A batched generation engine on llama.cpp's C API.

It works with tokens, generations and adapters, and knows nothing of subjects, questions or
environment variables. Of the rest of the project it uses only `runtime.common` (the parent class
of errors, lazy imports), so that it can be used alone:

    with Engine.load("model.gguf", EngineOptions(slots=16)) as engine:
        prompt = engine.model.tokenize("The capital of France is")
        for completion in engine.generate([Request(prompt)]):
            print(completion.text)

Requests may come and go while it runs:

    number = engine.add(Request(prompt))
    while engine.has_work:
        for update in engine.step():
            print(update.index, update.text)

The modules, from the bottom up:

- llama.cpp: `library` (environment and build), `calls` (signals and callbacks), `llama` (log,
  handles with one owner), `ggml` (tensors, GGUF files), `sizing` (all sums of capacity),
  `profiles` (what differs on a GPU)
- a model: `mixing` (adapters stacked, each token with its own), `lora_rows` (the same inside
  llama.cpp), `kernels` (whether weights are repacked for this CPU), `model`
- a call: `batch`, `rows` (logits), `shortlist` (the likeliest of them, found on the device),
  `context`, `sampling`
- an answer's form: `grammars` (constraints compiled for a vocabulary)
- a request: `generation`, `waiting` (whose turn it is), `step` (one call, with all it needs),
  `shape` (what calls must look like for answers to be equal to the bit), `scheduler` (the next
  step)
- an engine: `options`, `stats`, `cache` (the context, resized when requests need it), `runner`
  (runs steps), `prefixes` and `sharing`, `arrivals` (what those that come together share), `pace`
  (how much of a prompt a step may have), `slots` (keeps these in agreement), `engine`
- beside it: `speeds` times single calls, `probe` tries files in a process of its own, `cards`
  lists GPUs, `weights` reads from a file's header what it needs of one
"""

from typing import TYPE_CHECKING

from runtime.common.doors import lazy

# Sets what llama.cpp's libraries read when they are loaded: before any module here loads them.
from runtime.engine.library import describe_build

if TYPE_CHECKING:
    from runtime.common.constraint import Constraint, ConstraintError
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
            "runtime.common.constraint": ["Constraint", "ConstraintError"],
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
    "Constraint",
    "ConstraintError",
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
