"""Anthropic's /v1/messages: a chat, asked and answered in another form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from runtime.serve.body.common import Body, Refusing, Text, joined
from runtime.serve.body.fields import REFUSED_IN_MESSAGES
from runtime.serve.body.schema import MOST_MESSAGES, MOST_NEW, ChatBody, Name, Stop
from runtime.serve.converted import chat_of
from runtime.serve.tools.request import MOST_TOOLS, CallId, ToolName

JsonDict = dict[str, Any]

# What errors of chats name, as this body calls it.
NAMES = {"stop": "stop_sequences"}


class Block(Body):
    """A part of a message: a text, a call of a tool, or its result."""

    type: Literal["text", "tool_use", "tool_result"]
    text: str | None = None
    id: CallId | None = None
    name: ToolName | None = None
    input: dict[str, Any] | None = None
    tool_use_id: CallId | None = None
    content: Text | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = {"text": ("text",), "tool_use": ("id", "name", "input")}
        for field in needed.get(self.type, ("tool_use_id",)):
            if getattr(self, field) is None:
                raise ValueError(f"{field} is missing in a block of type {self.type}")
        return self


class Message(Body):
    role: Literal["user", "assistant"]
    content: str | Annotated[list[Block], Field(max_length=1000)]


class Tool(Body):
    name: ToolName
    description: str | None = None
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None


class ToolChoice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool | None = None


class CountBody(Refusing):
    """Of /v1/messages/count_tokens."""

    refused = REFUSED_IN_MESSAGES
    model: Name
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    system: Text | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None


class MessagesBody(CountBody):
    """Of /v1/messages. Fields that only chats have, such as seed, are passed on to the chat."""

    max_tokens: Annotated[int, Field(ge=1, le=MOST_NEW)]
    stop_sequences: Annotated[list[Stop], Field(max_length=100)] | None = None
    stream: bool | None = None


def chat_body(body: CountBody, sent: Mapping[str, Any]) -> ChatBody:
    """The chat that a body asks for, which was `sent` with all its fields. Raises ApiError."""
    system = [{"role": "system", "content": joined(body.system)}] if body.system else []
    turns = [turn for message in body.messages for turn in _turns(message)]
    passed = {name: value for name, value in sent.items() if name not in MessagesBody.model_fields}
    choice = body.tool_choice
    wanted = {
        "model": body.model,
        "messages": [*system, *turns],
        "max_tokens": sent.get("max_tokens"),
        "stop": sent.get("stop_sequences"),
        "tools": [_tool(tool) for tool in body.tools or ()],
        "tool_choice": _choice(choice),
        "parallel_tool_calls": choice is None or not choice.disable_parallel_tool_use,
    }
    return chat_of({**passed, **wanted}, NAMES)


def _turns(message: Message) -> Iterator[JsonDict]:
    """A message as messages of a chat: results of tools are messages of their own."""
    if isinstance(message.content, str):
        yield {"role": message.role, "content": message.content}
        return
    texts, calls = [], []
    for block in message.content:
        if block.type == "text":
            texts.append(block.text or "")
        elif block.type == "tool_use":
            function = {"name": block.name, "arguments": json.dumps(block.input)}
            calls.append({"id": block.id, "type": "function", "function": function})
        else:
            content = joined(block.content)
            yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}
    if calls:
        yield {"role": message.role, "content": "\n".join(texts), "tool_calls": calls}
    elif texts:
        yield {"role": message.role, "content": "\n".join(texts)}


def _tool(tool: Tool) -> JsonDict:
    function = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice | None) -> Any:
    if choice is None:
        return None
    if choice.type == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return {"any": "required"}.get(choice.type, choice.type)
