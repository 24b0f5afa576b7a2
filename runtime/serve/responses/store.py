"""Responses that later requests may go on with, kept in memory within limits."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from runtime.serve.errors import ApiError

JsonDict = dict[str, Any]

MOST_KEPT = 4096
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Kept:
    """A response, and the conversation up to its end as messages of a chat."""

    response: JsonDict
    messages: list[JsonDict]
    size: int


class ResponseStore:
    """Keeps what was used last: up to `most` responses of `size` bytes together, as JSON."""

    def __init__(self, most: int = MOST_KEPT, size: int = MOST_BYTES) -> None:
        self._most = most
        self._size = size
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0

    def keep(self, response: JsonDict, messages: list[JsonDict]) -> None:
        """Keep a response; the least recently used ones go where there is no room."""
        size = len(json.dumps([response, messages]))
        self._kept[response["id"]] = Kept(response, messages, size)
        self._bytes += size
        while len(self._kept) > self._most or self._bytes > self._size:
            self._bytes -= self._kept.popitem(last=False)[1].size

    def find(self, id_: str, param: str | None = None) -> Kept:
        """A response that is kept. Raises ApiError 404, about the field `param`."""
        kept = self._kept.get(id_)
        if kept is None:
            raise ApiError(
                404,
                f"there is no response {id_[:200]!r}: it was not stored, or made room for others;"
                " send the whole conversation as input",
                param,
                "response_not_found",
            )
        self._kept.move_to_end(id_)
        return kept

    def delete(self, id_: str) -> None:
        """Forget a response. Raises ApiError 404."""
        self._bytes -= self.find(id_).size
        del self._kept[id_]
