"""The modules of `scripts/`, as fixtures."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from runtime.settings import PROJECT_DIR

SCRIPTS = PROJECT_DIR / "scripts"


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ModuleType]]:
    """The modules `toolchains` and `build_llama`, which are no package."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("toolchains"), importlib.import_module("build_llama")
        for name in ("toolchains", "cuda_toolchain", "patching", "build_llama"):
            sys.modules.pop(name, None)


@pytest.fixture
def toolchains(scripts: tuple[ModuleType, ModuleType]) -> Any:
    return scripts[0]


@pytest.fixture
def build_llama(scripts: tuple[ModuleType, ModuleType]) -> Any:
    return scripts[1]


CLANG_19, CLANG_18 = "Debian clang version 19.1.7", "Debian clang version 18.1.8"
PATCH = """What it is for.

diff --git a/vendor/a.c b/vendor/a.c
--- a/vendor/a.c
+++ b/vendor/a.c
@@ -1,2 +1,2 @@
 int a;
-int b;
+int c;
"""


@pytest.fixture
def patching(scripts: tuple[ModuleType, ModuleType]) -> Any:
    return importlib.import_module("patching")
