"""`python -m lab.chats`: waiting times of people who chat with a server.

    python -m lab.chats --model demo
    python -m lab.chats --only turns --peers-python .venv-peers/bin/python

- *gaps*: an answer is streamed while four prompts of 1,100 tokens arrive: the longest and the
  median time between two pieces of its text, without a limit (STREAM_GAP_MS=0) and with the
  default, and the time of the four prompts.
- *turns*: a conversation that begins with 1,500 tokens: the time to the first token of each turn,
  and its ratio to that of a new prompt with as many tokens as the turn added.
- *crowd*: ten clients with one system prompt of 1,100 tokens, one after another: the same ratio.

All servers run at once and take turns, so that they share the same machine. Prompts are plain text.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.common.command import parser_for, run

_WORDS = ["river", "stone", "garden", "winter", "letter", "music", "island", "paper", "silver"]
_WORDS += ["market", "window", "bridge", "summer", "forest", "kitchen", "mountain", "village"]
_LONG = 1100  # words of a long prompt
_OTHERS = 4  # long prompts that arrive
_BEGINNING = 1500  # words that a conversation begins with
_NEW_TOKENS = 32
_LEAST = 8  # tokens; a server may find a few of any prompt


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--model", default="demo", help="MODEL_NAME (default: demo)")
    add("--rounds", type=int, default=3, help="of everything (default: 3)")
    add("--turns", type=int, default=6, help="of a conversation (default: 6)")
    add("--crowd", type=int, default=10, help="clients with one system prompt (default: 10)")
    add("--only", choices=["gaps", "turns", "crowd"])
    add("--peers-python", type=Path, help="Python with xllamacpp, for llama-server's engine")
    return run(_measure, parser.parse_args(argv), "stopped")


def _measure(options: argparse.Namespace) -> int:
    with ExitStack() as running:
        servers = _servers(options, running)
        kinds = {"gaps": _gaps, "turns": _turns, "crowd": _crowd}
        for name, measure in kinds.items():
            if options.only not in (None, name):
                continue
            found: dict[str, list[list[float]]] = {server: [] for server in servers}
            heads: Sequence[str] = ()
            for number in range(options.rounds):
                # In another order each time: what is measured first sees another machine.
                order = list(servers)[:: -1 if number % 2 else 1]
                for server in order:
                    chat = Chat(servers[server], random.Random(f"{name} {number}"))
                    heads, values = measure(chat, options)
                    found[server].append(values)
            print(_report(name, heads, found), flush=True)
    return 0


def _servers(options: argparse.Namespace, running: ExitStack) -> dict[str, str]:
    """Start the servers; returns their addresses by name. They stop with `running`."""
    from benchmarks.contenders.work import Work
    from benchmarks.servers import llama_server, ours
    from runtime.engine.llama import physical_cores
    from runtime.files.routes import plan_routes
    from runtime.settings import Settings

    settings = Settings.load(model_name=options.model)
    model = next(iter(plan_routes(settings).values())).model
    longest = 2 * max(_LONG, _BEGINNING) + 100 * options.turns
    cells = longest + _NEW_TOKENS
    work = Work(str(model), [], _NEW_TOKENS, 8, physical_cores(), cells)
    found = {}
    for name, gap in (("STREAM_GAP_MS=0", 0), ("this server", settings.stream_gap_ms)):
        server = running.enter_context(ours(work, {}, STREAM_GAP_MS=str(gap)))
        found[name] = server.address
    if options.peers_python:
        peer = running.enter_context(llama_server(options.peers_python, work))
        found["llama-server's engine"] = peer.address
    return found


@dataclass
class Chat:
    """A client of a server.

    Attributes:
        address: the server's host and port.
        draw: draws the words of prompts.
    """

    address: str
    draw: random.Random

    def words(self, n: int) -> str:
        """A random text of n words."""
        return " ".join(self.draw.choices(_WORDS, k=n))

    def ask(self, prompt: str, new_tokens: int) -> Any:
        """Ask for an answer of exactly `new_tokens` tokens. Raises SetupError."""
        from benchmarks.traffic import Reply, ask
        from runtime.common.errors import SetupError

        body = {
            "model": "general",  # which llama-server ignores
            "prompt": prompt,
            "max_tokens": new_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream_options": {"include_usage": True},
        }
        reply = ask(self.address, body, Reply(0, time.perf_counter()), 600)
        if reply.problem and not reply.usage:
            raise SetupError(f"{self.address}: {reply.problem}")
        return reply

    def alone(self, n_tokens: int) -> float:
        """Seconds to the first token of a new prompt of about `n_tokens` tokens."""
        reply = self.ask(self.words(n_tokens), 4)
        return float(reply.wait * n_tokens / _n_computed(reply))


def _n_computed(reply: Any) -> int:
    """Tokens of a prompt that were not cached."""
    cached = (reply.usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return int(reply.usage["prompt_tokens"] - cached)


def _gaps(chat: Chat, options: argparse.Namespace) -> tuple[Sequence[str], list[float]]:
    """Read an answer while long prompts arrive."""
    prompts = [chat.words(_LONG) for _ in range(_OTHERS)]
    waits: list[float] = []

    def other(prompt: str) -> None:
        waits.append(chat.ask(prompt, _NEW_TOKENS).wait)

    threads = [threading.Thread(target=other, args=[prompt]) for prompt in prompts]

    def start() -> None:
        for thread in threads:
            thread.start()

    timer = threading.Timer(0.5, start)
    timer.start()
    times = chat.ask(chat.words(20), 16 * _NEW_TOKENS).times
    timer.join()
    for thread in threads:
        thread.join()
    gaps = [after - before for before, after in itertools.pairwise(times)]
    heads = ["longest gap", "median gap", "the others' first tokens"]
    return heads, [max(gaps), statistics.median(gaps), max(waits)]


def _turns(chat: Chat, options: argparse.Namespace) -> tuple[Sequence[str], list[float]]:
    """A conversation: seconds of its first turn, then each turn's ratio."""
    text, values = chat.words(_BEGINNING), []
    for turn in range(options.turns):
        reply = chat.ask(text, _NEW_TOKENS)
        n_new = max(_LEAST, _n_computed(reply))
        values.append(reply.wait if turn == 0 else reply.wait / chat.alone(n_new))
        text += f"{reply.text}\n{chat.words(30)}\n"
    heads = ["turn 1, s", *(f"turn {turn + 2}, ×" for turn in range(options.turns - 1))]
    return heads, values


def _crowd(chat: Chat, options: argparse.Namespace) -> tuple[Sequence[str], list[float]]:
    """Clients with one system prompt: seconds of the first, then the worst ratio of the rest."""
    system, values = chat.words(_LONG), []
    for client in range(options.crowd):
        reply = chat.ask(f"{system}\n{chat.words(30)}", _NEW_TOKENS)
        n_new = max(_LEAST, _n_computed(reply))
        values.append(reply.wait if client == 0 else reply.wait / chat.alone(n_new))
    rest = values[1:]
    return ["first, s", "others, median ×", "others, largest ×"], [
        values[0],
        statistics.median(rest),
        max(rest),
    ]


def _report(name: str, heads: Sequence[str], found: dict[str, list[list[float]]]) -> str:
    """The medians of all rounds as a Markdown table."""
    from benchmarks.common import table

    rows = []
    for server, rounds in found.items():
        medians = [statistics.median(values) for values in zip(*rounds, strict=True)]
        rows.append([server, *(f"{value:.2f}" for value in medians)])
    return table(" | ".join([name, *heads]), rows)


if __name__ == "__main__":
    sys.exit(main())
