"""Answers questions of several subjects with llama.cpp, many at once.

from runtime import loadPipeline

pipeline = loadPipeline()
answers = pipeline([{"questionID": "1", "subject": "history", "question": "..."}])

The contest's harness does the same through the package `inferencePipeline`: it calls
`loadPipeline()` once without arguments, and then the pipeline once with all questions. Only
that call is timed. `python -m evaluation` does the same.
"""

from typing import TYPE_CHECKING

from runtime.common.doors import lazy
from runtime.common.errors import SetupError

if TYPE_CHECKING:
    from runtime.pipeline import Answer, Pipeline, loadPipeline
    from runtime.settings import Settings
else:
    # Imported when they are used: --help and small modules need neither numpy nor llama.cpp.
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "runtime.pipeline": ["Answer", "Pipeline", "loadPipeline"],
            "runtime.settings": ["Settings"],
        },
    )

__all__ = ["Answer", "Pipeline", "Settings", "SetupError", "loadPipeline"]
__version__ = "0.1.0"
