"""Serves subject-routed questions with llama.cpp, many at once.

from runtime import loadPipeline

pipeline = loadPipeline()
answers = pipeline([{"questionID": "1", "subject": "history", "question": "..."}])
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
