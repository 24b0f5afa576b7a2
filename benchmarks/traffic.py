"""Many clients of a server with `/v1/completions`: what each received, and when.

Times are in seconds, from `time.perf_counter`. Answers are streamed.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_PATIENCE = 120.0  # seconds without data from the server until an answer counts as lost
# Maps the number of a request to its body.
Body = Callable[[int], dict[str, Any]]


@dataclass
class Reply:
    """The result of a request.

    Attributes:
        number: of the request.
        sent: when it was due.
        first: when its first text arrived; 0.0 without text.
        done: when it ended.
        id: the server's id of the response.
        ends: how many events have a finish reason; more than one is a fault.
        text: the whole text.
        times: when each piece of it arrived.
        usage: the server's token counts, if they were requested.
        problem: why there is no complete answer, or "".
    """

    number: int
    sent: float
    first: float = 0.0
    done: float = 0.0
    id: str = ""
    ends: int = 0
    text: str = ""
    times: list[float] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def wait(self) -> float:
        """Seconds to the first text."""
        return self.first - self.sent


@dataclass
class Traffic:
    """Replies to many requests.

    Attributes:
        sent: number of requests.
        seconds: from the first request to the end of the last.
        replies: in the order in which they ended.
    """

    sent: int = 0
    seconds: float = 0.0
    replies: list[Reply] = field(default_factory=list)

    @property
    def lost(self) -> list[Reply]:
        """Replies without a complete answer."""
        return [reply for reply in self.replies if reply.problem]

    @property
    def missing(self) -> int:
        """How many requests have no complete answer, including those without a reply."""
        return self.sent - len(self.replies) + len(self.lost)

    @property
    def doubled(self) -> int:
        """How many answers ended twice or repeat another answer's id."""
        whole = [reply for reply in self.replies if not reply.problem]
        return sum(reply.ends > 1 for reply in whole) + len(whole) - len({r.id for r in whole})

    @property
    def rate(self) -> float:
        """Complete answers per second."""
        return (self.sent - self.missing) / self.seconds if self.seconds else 0.0

    def waits(self) -> list[float]:
        """Seconds to the first text of each complete answer, ascending."""
        return sorted(reply.wait for reply in self.replies if not reply.problem)


def ask(address: str, body: dict[str, Any], reply: Reply, timeout: float) -> Reply:
    """Send a request and read its stream into `reply`, which is returned.

    Args:
        address: host and port.
        timeout: seconds without data from the server until the answer counts as lost.
    """
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps({**body, "stream": True}), headers)
        response = connection.getresponse()
        if response.status != 200:
            reply.problem = f"{response.status}: {response.read(300).decode('utf-8', 'replace')}"
            return reply
        complete = False
        for line in response:
            if not line.startswith(b"data: "):
                continue
            if line.strip() == b"data: [DONE]":
                complete = True
                continue
            event = json.loads(line.removeprefix(b"data: "))
            if "error" in event:
                reply.problem = str(event["error"])
                return reply
            reply.id = event["id"]
            reply.usage = event.get("usage") or reply.usage
            for choice in event["choices"]:
                if choice["text"]:
                    reply.times.append(time.perf_counter())
                    reply.first = reply.times[0]
                reply.text += choice["text"]
                reply.ends += choice["finish_reason"] is not None
        if not (complete and reply.ends and reply.first):
            reply.problem = "the answer is incomplete"
    except (OSError, http.client.HTTPException, ValueError) as error:
        reply.problem = f"{type(error).__name__}: {error}"
    finally:
        reply.done = time.perf_counter()
        connection.close()
    return reply


def together(address: str, body: Body, clients: int, seconds: float) -> Traffic:
    """For some seconds, run clients that ask again as soon as they have their answer."""
    traffic, numbers, lock = Traffic(), itertools.count(), threading.Lock()
    start = time.perf_counter()

    def client() -> None:
        while time.perf_counter() < start + seconds:
            with lock:
                number = next(numbers)
                traffic.sent += 1
            reply = ask(address, body(number), Reply(number, time.perf_counter()), _PATIENCE)
            with lock:
                traffic.replies.append(reply)
            if reply.problem:
                time.sleep(0.1)  # do not send millions of requests to a server that is gone

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    traffic.seconds = time.perf_counter() - start
    return traffic


def arriving(address: str, body: Body, rate: float, seconds: float, seed: int) -> Traffic:
    """Send requests at random times that do not depend on earlier answers (a Poisson process).

    Waits count from the time a request was due, so that a slow client hides nothing.

    Args:
        address: host and port.
        rate: requests per second.
        seconds: how long requests are sent.
        seed: for the times.
    """
    traffic, lock, draw = Traffic(), threading.Lock(), random.Random(seed)
    threads = []
    start = due = time.perf_counter()

    def client(reply: Reply) -> None:
        ask(address, body(reply.number), reply, _PATIENCE)
        with lock:
            traffic.replies.append(reply)

    while (due := due + draw.expovariate(rate)) < start + seconds:
        time.sleep(max(0.0, due - time.perf_counter()))
        thread = threading.Thread(target=client, args=[Reply(traffic.sent, due)])
        traffic.sent += 1
        threads.append(thread)
        thread.start()
    for thread in threads:
        thread.join()
    traffic.seconds = time.perf_counter() - start
    return traffic


def percentile(ordered: list[float], share: float) -> float:
    """A percentile of sorted values; NaN if there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
