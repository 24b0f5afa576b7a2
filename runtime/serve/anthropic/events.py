"""From the chunks of a chat to the events of Anthropic's /v1/messages."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

from runtime.serve.errors import MESSAGES, ApiError

JsonDict = dict[str, Any]

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class MessageEvents:
    """Makes the events of one answer from the chunks of a chat; see `converted.Events`."""

    def __init__(self, model: str, n_prompt: int) -> None:
        self.answer: JsonDict = {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": n_prompt, "output_tokens": 0},
        }
        self._inputs: dict[int, str] = {}  # of calls, by block

    def begin(self) -> Iterator[JsonDict]:
        message = {**self.answer, "content": [], "usage": dict(self.answer["usage"])}
        yield {"type": "message_start", "message": message}

    def add(self, chunk: JsonDict) -> Iterator[JsonDict]:
        if usage := chunk.get("usage"):
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            self.answer["usage"] = {
                "input_tokens": usage["prompt_tokens"] - cached,
                "cache_read_input_tokens": cached,
                "output_tokens": usage["completion_tokens"],
            }
        for choice in chunk["choices"]:
            if text := choice["delta"].get("content"):
                if not self._is_open("text"):
                    yield from self._begin_block({"type": "text", "text": ""})
                self.answer["content"][-1]["text"] += text
                yield self._delta({"type": "text_delta", "text": text})
            for call in choice["delta"].get("tool_calls", ()):
                if "id" in call:
                    name = call["function"]["name"]
                    block = {"type": "tool_use", "id": call["id"], "name": name, "input": {}}
                    yield from self._begin_block(block)
                    self._inputs[self._last] = ""
                self._inputs[self._last] += call["function"]["arguments"]
                part = {"partial_json": call["function"]["arguments"]}
                yield self._delta({"type": "input_json_delta", **part})
            if reason := choice["finish_reason"]:
                self.answer["stop_reason"] = _REASONS[reason]
                stop = choice.get("stop_reason")
                if reason == "stop" and isinstance(stop, str):
                    self.answer |= {"stop_reason": "stop_sequence", "stop_sequence": stop}

    def finish(self) -> Iterator[JsonDict]:
        yield from self._end_block()
        for index, text in self._inputs.items():
            self.answer["content"][index]["input"] = _parsed(text)
        delta = {name: self.answer[name] for name in ("stop_reason", "stop_sequence")}
        yield {"type": "message_delta", "delta": delta, "usage": self.answer["usage"]}
        yield {"type": "message_stop"}

    def fail(self, error: ApiError) -> JsonDict:
        return error.body(MESSAGES)

    @property
    def _last(self) -> int:
        return len(self.answer["content"]) - 1

    def _is_open(self, kind: str) -> bool:
        content = self.answer["content"]
        return bool(content) and content[-1]["type"] == kind

    def _begin_block(self, block: JsonDict) -> Iterator[JsonDict]:
        yield from self._end_block()
        self.answer["content"].append(block)
        yield {"type": "content_block_start", "index": self._last, "content_block": dict(block)}

    def _end_block(self) -> Iterator[JsonDict]:
        if self.answer["content"]:
            yield {"type": "content_block_stop", "index": self._last}

    def _delta(self, delta: JsonDict) -> JsonDict:
        return {"type": "content_block_delta", "index": self._last, "delta": delta}


def _parsed(arguments: str) -> Any:
    """Arguments as an object; {} where they were cut off."""
    try:
        return json.loads(arguments)
    except ValueError:
        return {}
