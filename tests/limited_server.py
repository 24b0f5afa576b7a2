"""A server with a key, a short queue and small bodies, and what its errors look like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import Server, serving

KEY = "a secret"
# Takes minutes: it must be ended, not waited for.
ENDLESS = {"model": "demo", "prompt": "A", "max_tokens": 2000, "ignore_eos": True}
TINY = {"model": "demo", "prompt": "A", "max_tokens": 1}
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


@pytest.fixture(scope="session")
def limited(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    arguments = ("--queue", "6", "--body-mb", "1")
    settings = {"ADAPTERS_BASE_DIR": "", "MAX_INPUT_TOKENS": "2048"}
    with serving(folder, *arguments, SERVE_API_KEY=KEY, BATCH_SIZE="4", **settings) as server:
        yield server


@pytest.fixture(scope="session")
def keyed(limited: Server) -> Iterator[Any]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=limited.url, timeout=60, headers=headers) as client:
        yield client


def problem(response: Any, status: int) -> dict[str, Any]:
    """The error of a response, which is in OpenAI's form."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return dict(error)
