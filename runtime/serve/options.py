"""The options of `python -m runtime.serve`. What it answers, and how, is in the settings."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY_VARIABLE = "SERVE_API_KEY"


@dataclass(frozen=True)
class Options:
    """How the server listens and what it takes in.

    `parse` says what each is. Without `api_key` and `api_keys_file` all clients are admitted; a
    `served_model_name` of () is MODEL_NAME, and a `max_model_len` of None MAX_MODEL_LEN.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str = ""
    api_keys_file: Path | None = None
    allowed_origins: tuple[str, ...] = ()
    served_model_name: tuple[str, ...] = ()
    max_model_len: int | None = None
    queue: int = 1024
    deadline: float = 600.0
    grace: float = 60.0
    body_mb: float = 8.0
    file_mb: float = 200.0
    batch_dir: Path | None = None
    file_days: float = 0.0
    access_log: bool = False
    runtime_adapters: bool = False


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Options from the command line; the key from the environment, where ps does not show it."""
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="python -m runtime.serve",
        description="Serve every subject as a model that OpenAI's clients know.",
        epilog=f"The environment has the settings (python -m runtime --show-settings) and, in"
        f" {KEY_VARIABLE}, the key that clients must send.",
    )

    def add(name: str, kind: Any, meaning: str) -> None:
        default = getattr(defaults, name)
        parser.add_argument(
            "--" + name.replace("_", "-"), type=kind, default=default, help=f"{meaning} ({default})"
        )

    add("host", str, "address to listen on; 0.0.0.0 is all of this machine's")
    add("port", _number(int, 0, 65535), "port to listen on; 0 is any that is free")
    add("queue", _number(int, 1, 1_000_000), "requests that may wait; beyond that: 429")
    add("deadline", _number(float, 0.1, 86400), "seconds until a request is given up")
    add("grace", _number(float, 0, 86400), "seconds for what still runs when asked to stop")
    add("body_mb", _number(float, 0.01, 1024), "most megabytes of a body")
    add("file_mb", _number(float, 0.01, 4096), "most megabytes of an uploaded file")
    add("batch_dir", Path, "folder for /v1/files and /v1/batches; without it they are off")
    add("file_days", _number(float, 0, 36500), "days until a file is deleted; 0 keeps all")
    add("api_keys_file", Path, "file of API keys, a line each; read again on SIGHUP")
    parser.add_argument(
        "--max-model-len",
        type=_length,
        metavar="TOKENS",
        help="most tokens of a prompt and its answer, or auto for as many as the model takes and"
        " KV_CACHE_GB allows (the setting MAX_MODEL_LEN)",
    )
    parser.add_argument(
        "--allowed-origins",
        nargs="+",
        default=(),
        metavar="ORIGIN",
        help="origins of web pages that may send requests, such as https://example.org; * is all",
    )
    parser.add_argument(
        "--served-model-name",
        nargs="+",
        default=(),
        metavar="NAME",
        help="names of the bare base, instead of MODEL_NAME; answers have the first",
    )
    parser.add_argument("--access-log", action="store_true", help="log a line for each request")
    parser.add_argument(
        "--runtime-adapters",
        action="store_true",
        help="let clients load and unload adapters; only where all of them are trusted",
    )
    chosen = vars(parser.parse_args(arguments))
    for name in ("allowed_origins", "served_model_name"):
        chosen[name] = tuple(chosen[name])
    return Options(**chosen, api_key=os.environ.get(KEY_VARIABLE, ""))


def _length(text: str) -> int:
    return -1 if text in ("auto", "-1") else int(_number(int, 1, 10_000_000)(text))


def _number(kind: type[int] | type[float], least: float, most: float) -> Any:
    def parse_number(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not {least:g} to {most:g}")
        return value

    return parse_number
