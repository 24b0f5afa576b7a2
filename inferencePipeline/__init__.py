"""The evaluator's import name; everything lives in `runtime`."""

from runtime import loadPipeline

__all__ = ["loadPipeline"]
