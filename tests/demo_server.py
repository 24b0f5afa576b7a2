"""A server on the demo and its adapters, with its clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from runtime import Pipeline, loadPipeline
from tests.conftest import LORAS, small_settings
from tests.serving import Server, serving

FRANCE = "What is the capital of France?"


@pytest.fixture(scope="session")
def server(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, "--runtime-adapters", ALGEBRA_TOOL="exact") as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[Any]:
    with httpx.Client(base_url=server.url, timeout=60) as http:
        yield http


@pytest.fixture(scope="session")
def in_process(demo_model: Path) -> Iterator[Pipeline]:
    """The same pipeline without a server."""
    settings = small_settings(adapters_base_dir=LORAS, num_threads=1, algebra_tool="exact")
    with loadPipeline(settings) as pipeline:
        yield pipeline


def chat(client: Any, question: str = FRANCE, model: str = "geography", **more: Any) -> Any:
    messages = [{"role": "user", "content": question}]
    if "max_completion_tokens" not in more:
        more = {"max_tokens": 24, **more}
    return client.chat.completions.create(model=model, messages=messages, **more)
