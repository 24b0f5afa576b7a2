"""Whose request goes to the engine next: clients take turns, whatever each of them asks."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")

# Who sent the request that is being answered: an API key's digest, or an address.
client: ContextVar[str] = ContextVar("client", default="")


class Turns(Generic[T]):
    """Requests of clients, of which `most` are passed on at once, one of each client in turn."""

    def __init__(self, most: int, pass_on: Callable[[T], None]) -> None:
        self._most = most
        self._pass_on = pass_on
        self._passed: set[T] = set()
        # Their requests by client, the next of both first; dicts keep the order.
        self._waiting: dict[str, dict[T, None]] = {}

    def __len__(self) -> int:
        """How many wait for their turn."""
        return sum(map(len, self._waiting.values()))

    def add(self, who: str, request: T) -> bool:
        """Take in a request of a client; whether it was passed on at once."""
        self._waiting.setdefault(who, {})[request] = None
        self._fill()
        return request in self._passed

    def end(self, request: T) -> None:
        """Forget a request, which has ended or is no longer wanted."""
        if request in self._passed:
            self._passed.remove(request)
            self._fill()
            return
        for who, requests in self._waiting.items():
            if request in requests:
                del requests[request]
                if not requests:
                    del self._waiting[who]
                return

    def _fill(self) -> None:
        while self._waiting and len(self._passed) < self._most:
            who, request = next((who, next(iter(them))) for who, them in self._waiting.items())
            requests = self._waiting.pop(who)
            del requests[request]
            if requests:
                self._waiting[who] = requests  # after all others
            self._passed.add(request)
            self._pass_on(request)
