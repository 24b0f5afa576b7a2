"""Serves subject-routed questions with llama.cpp, many at once.

from runtime import loadPipeline

pipeline = loadPipeline()
answers = pipeline([{"questionID": "1", "subject": "history", "question": "..."}])
"""

from runtime.common.errors import SetupError
from runtime.pipeline import Answer, Pipeline, loadPipeline
from runtime.settings import Settings

__all__ = ["Answer", "Pipeline", "Settings", "SetupError", "loadPipeline"]
__version__ = "0.1.0"
