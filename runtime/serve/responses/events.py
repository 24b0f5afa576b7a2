"""From the chunks of a chat to the events of a response, the last of which has all of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

from runtime.serve.errors import ApiError
from runtime.serve.responses.body import ResponseBody

JsonDict = dict[str, Any]


class ResponseEvents:
    """Makes the events of one response; see `converted.Events`."""

    def __init__(self, body: ResponseBody) -> None:
        given = body.model_dump(by_alias=True, exclude_unset=True)
        text = {"format": {"type": "text"}, **(given.get("text") or {})}
        self.answer: JsonDict = {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": body.model,
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": {"effort": None, "summary": None},
            "store": body.store is not False,
            "temperature": body.temperature,
            "text": text,
            "tool_choice": given.get("tool_choice") or "auto",
            "tools": given.get("tools") or [],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": None,
        }
        self._number = 0
        self._open: JsonDict | None = None  # the output item that is being written
        self._reason = "stop"

    def begin(self) -> Iterator[JsonDict]:
        yield self._event("response.created", response=self.answer)
        yield self._event("response.in_progress", response=self.answer)

    def add(self, chunk: JsonDict) -> Iterator[JsonDict]:
        if usage := chunk.get("usage"):
            self.answer["usage"] = _usage(usage)
        if "route" in chunk:
            self.answer["route"] = chunk["route"]
        for choice in chunk["choices"]:
            delta, scores = choice["delta"], (choice["logprobs"] or {}).get("content") or []
            if delta.get("content") or scores:
                yield from self._say(delta.get("content") or "", scores)
            for call in delta.get("tool_calls", ()):
                yield from self._call(call)
            self._reason = choice["finish_reason"] or self._reason

    def finish(self) -> Iterator[JsonDict]:
        cut = self._reason == "length"
        status = "incomplete" if cut else "completed"
        if not self.answer["output"]:  # an empty answer is a message, too
            yield from self._say("", [])
        yield from self._close(status)
        if cut:
            self.answer["incomplete_details"] = {"reason": "max_output_tokens"}
        self.answer["status"] = status
        yield self._event(f"response.{status}", response=self.answer)

    def fail(self, error: ApiError) -> JsonDict:
        code = "rate_limit_exceeded" if error.status_code == 429 else "server_error"
        self.answer["error"] = {"code": code, "message": str(error.detail)}
        self.answer["status"] = "failed"
        return self._event("response.failed", response=self.answer)

    def _event(self, kind: str, **data: Any) -> JsonDict:
        self._number += 1
        # What it shows changes later.
        shown = {name: _copied(value) for name, value in data.items()}
        return {"type": kind, "sequence_number": self._number - 1, **shown}

    def _say(self, text: str, scores: list[JsonDict]) -> Iterator[JsonDict]:
        item = self._open
        if item is None or item["type"] != "message":
            item = {
                "id": f"msg_{secrets.token_hex(24)}",
                "type": "message",
                "status": "in_progress",
                "role": "assistant",
                "content": [],
            }
            yield from self._add_item(item)
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            item["content"].append(part)
            yield self._event(
                "response.content_part.added", **self._place(item), content_index=0, part=part
            )
        part = item["content"][0]
        part["text"] += text
        part["logprobs"] += scores
        if text or scores:
            yield self._event(
                "response.output_text.delta",
                **self._place(item),
                content_index=0,
                delta=text,
                logprobs=scores,
            )

    def _call(self, call: JsonDict) -> Iterator[JsonDict]:
        function = call["function"]
        if "id" in call:
            item = {
                "id": f"fc_{secrets.token_hex(24)}",
                "type": "function_call",
                "status": "in_progress",
                "call_id": call["id"],
                "name": function["name"],
                "arguments": "",
            }
            yield from self._add_item(item)
        assert self._open is not None
        if function["arguments"]:
            self._open["arguments"] += function["arguments"]
            yield self._event(
                "response.function_call_arguments.delta",
                **self._place(self._open),
                delta=function["arguments"],
            )

    def _add_item(self, item: JsonDict) -> Iterator[JsonDict]:
        yield from self._close("completed")
        self._open = item
        self.answer["output"].append(item)
        index = len(self.answer["output"]) - 1
        yield self._event("response.output_item.added", output_index=index, item=item)

    def _close(self, status: str) -> Iterator[JsonDict]:
        """End the item that is being written, if any."""
        item, self._open = self._open, None
        if item is None:
            return
        place, item["status"] = self._place(item), status
        if item["type"] == "message":
            part = item["content"][0]
            text, scores = part["text"], part["logprobs"]
            yield self._event(
                "response.output_text.done", **place, content_index=0, text=text, logprobs=scores
            )
            yield self._event("response.content_part.done", **place, content_index=0, part=part)
        else:
            yield self._event(
                "response.function_call_arguments.done",
                **place,
                name=item["name"],
                arguments=item["arguments"],
            )
        index = place["output_index"]
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _place(self, item: JsonDict) -> JsonDict:
        return {"item_id": item["id"], "output_index": len(self.answer["output"]) - 1}


def messages_said(response: JsonDict) -> list[JsonDict]:
    """What a response says, as messages of a chat."""
    message: JsonDict = {"role": "assistant", "content": None}
    for item in response["output"]:
        if item["type"] == "message":
            message["content"] = (message["content"] or "") + item["content"][0]["text"]
        else:
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            message.setdefault("tool_calls", []).append(call)
    return [message]


def _usage(usage: JsonDict) -> JsonDict:
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }


def _copied(value: Any) -> Any:
    """A copy of JSON's objects and lists."""
    if isinstance(value, dict):
        return {name: _copied(inner) for name, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value
