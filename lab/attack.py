"""`python -m lab.attack --address 127.0.0.1:8000`: bad clients of a server beside good ones.

Connections that send nothing, requests of which half is sent, and clients that never read their
streams stay open while other clients ask; at the end the command says how many of those got whole
answers. A server that is started with a limit of file descriptors (`ulimit -n`) below the number of
connections closes the idle ones.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from benchmarks.traffic import Traffic, together
from runtime.common.command import parser_for, run

_HEAD = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--address", default="127.0.0.1:8000", help="host and port (default: 127.0.0.1:8000)")
    add("--model", default="demo", help="name of a model there (default: demo)")
    add("--idle", type=int, default=2000, help="connections without a request (default: 2000)")
    add("--half", type=int, default=500, help="half requests (default: 500)")
    add("--unread", type=int, default=50, help="streams that are not read (default: 50)")
    add("--clients", type=int, default=16, help="good clients at once (default: 16)")
    add("--minutes", type=float, default=10.0, help="that they ask (default: 10)")
    return run(_attack, parser.parse_args(argv))


def _attack(options: argparse.Namespace) -> int:
    with attacked(options.address, options.model, options.idle, options.half, options.unread) as n:
        print(f"{n} bad connections are open", flush=True)
        traffic = ask_beside(options.address, options.model, options.clients, options.minutes * 60)
    waits = traffic.waits()
    print(
        f"{traffic.sent} requests, {traffic.missing} without a whole answer,"
        f" {traffic.doubled} doubled; median wait {waits[len(waits) // 2] if waits else 0:.2f} s"
    )
    for reply in traffic.lost[:5]:
        print(f"  {reply.problem}")
    return 1 if traffic.missing or traffic.doubled else 0


@contextmanager
def attacked(address: str, model: str, idle: int, half: int, unread: int) -> Iterator[int]:
    """Keep bad connections open in the block; yields how many there are."""
    host, _, port = address.rpartition(":")
    body = _body(model, stream=True, max_tokens=300)
    whole = f"{_HEAD}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    sends = [b""] * idle
    # Half a head, and a whole head with half a body.
    sends += [whole[: len(_HEAD) // 2] if number % 2 else whole[:-20] for number in range(half)]
    sends += [whole] * unread
    with ExitStack() as stack:
        opened = 0
        for data in sends:
            with suppress(OSError):  # the server may close those before, and has a backlog
                connection = socket.socket()
                stack.callback(connection.close)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                connection.settimeout(10)
                connection.connect((host, int(port)))
                connection.sendall(data)
                opened += 1
        yield opened


def ask_beside(address: str, model: str, clients: int, seconds: float) -> Traffic:
    """Have clients ask short questions, each again as soon as it has an answer."""

    def body(number: int) -> dict[str, Any]:
        return {"model": model, "prompt": f"Number {number}:", "max_tokens": 8, "ignore_eos": True}

    return together(address, body, clients, seconds)


def _body(model: str, **more: Any) -> str:
    return json.dumps({"model": model, "prompt": "A", "ignore_eos": True, **more})


if __name__ == "__main__":
    sys.exit(main())
