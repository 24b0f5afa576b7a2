"""A buffer that llama.cpp sets to zero takes memory only where it is written (scripts/patches)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.products import LIBRARIES, Pointer, Size, call, library

MIB = 2**20
SIZE = 512 * MIB
BASE = LIBRARIES / "libggml-base.so"


def has_patch() -> bool:
    """Whether the library has the patch's function; one without symbols does not tell."""
    return BASE.is_file() and b"ggml_backend_cpu_buffer_clear_own" in BASE.read_bytes()


pytestmark = pytest.mark.skipif(
    not has_patch() or not Path("/proc/self/statm").exists(),
    reason="llama.cpp was built without this project's patches, or this is not Linux",
)


def resident() -> int:
    """Bytes of memory that this process takes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def buffer() -> Iterator[int]:
    """A buffer of ggml, as a KV cache has."""
    base = library("ggml-base")
    kind = call(base, "ggml_backend_cpu_buffer_type", Pointer)
    made = call(base, "ggml_backend_buft_alloc_buffer", Pointer, (Pointer, kind), (Size, SIZE))
    yield made
    call(base, "ggml_backend_buffer_free", None, (Pointer, made))


def clear(buffer: int, value: int) -> None:
    call(
        library("ggml-base"),
        "ggml_backend_buffer_clear",
        None,
        (Pointer, buffer),
        (ctypes.c_uint8, value),
    )


def test_a_cleared_buffer_takes_memory_only_where_it_is_written(buffer: int) -> None:
    start = call(library("ggml-base"), "ggml_backend_buffer_get_base", Pointer, (Pointer, buffer))
    content = (ctypes.c_uint8 * SIZE).from_address(start)
    before = resident()
    clear(buffer, 0)
    assert resident() - before < SIZE // 4
    ctypes.memset(start, 1, SIZE // 2)
    assert resident() - before > SIZE // 4
    clear(buffer, 0)
    assert resident() - before < SIZE // 4
    places = [0, 1, 4095, 4096, SIZE // 2 - 1, SIZE // 2, SIZE - 4096, SIZE - 1]
    assert not any(content[place] for place in places)
    clear(buffer, 7)  # which no page of the system's holds
    assert {content[place] for place in places} == {7}
