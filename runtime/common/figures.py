"""Figures in one style, drawn with matplotlib and no screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.common.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAIN, PALE, OTHER = "#2f6fde", "#8fb4f2", "#9aa3b2"
CONTRAST = "#d9480f"


@contextmanager
def axes(path: Path, width: float = 6, height: float = 3.4, dpi: int = 150) -> Iterator[Axes]:
    """Axes to draw on; the figure is written when the block ends well, whole or not at all.

    The suffix of `path` is the format: .png (of `dpi`), .svg or .pdf. Sizes are in inches.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    # Without pyplot there is neither a screen to choose nor a figure to close. Files of the same
    # drawing are the same, byte for byte.
    style = {"axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": path.name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.subplots()
        form = path.suffix.removeprefix(".") or "png"
        metadata = {"png": {"Software": None}, "svg": {"Date": None}}.get(form)
        with replacing(path) as partial:
            figure.savefig(partial, format=form, dpi=dpi, metadata=metadata)
