"""What the contest's harness imports; the code is in `runtime`."""

from runtime import loadPipeline

__all__ = ["loadPipeline"]
