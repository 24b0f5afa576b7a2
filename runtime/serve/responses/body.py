"""The body of /v1/responses, and what it asks for as a body of /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from runtime.serve.body.common import AnyPart, Body, Metadata, Refusing, joined
from runtime.serve.body.fields import REFUSED_IN_RESPONSES
from runtime.serve.body.schema import MOST_LOGPROBS, MOST_NEW, ChatBody, Name
from runtime.serve.converted import chat_of
from runtime.serve.tools.request import MOST_TOOLS, CallId, ToolName

JsonDict = dict[str, Any]

MOST_ITEMS = 1024
# In `include`, it asks for log-probabilities; other values ask for what never occurs here.
LOGPROBS = "message.output_text.logprobs"
# What errors of chats name, as this body calls it.
NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text",
}


class TextPart(AnyPart):
    type: Literal["input_text", "output_text", "text"] = Field(description="Only text is served.")


Text = str | Annotated[list[TextPart], Field(max_length=1000)]


class Item(Body):
    """Of `input`: a message, a call of a function, or its result."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Text | None = None
    call_id: CallId | None = None
    name: ToolName | None = None
    arguments: str | None = None
    output: Text | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = {
            "message": ("role", "content"),
            "function_call": ("call_id", "name", "arguments"),
            "function_call_output": ("call_id", "output"),
        }
        for field in needed[self.type]:
            if getattr(self, field) is None:
                raise ValueError(f"{field} is missing in an item of type {self.type}")
        return self


class FunctionTool(Body):
    type: Literal["function"] = Field(description="Only functions are served.")
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedFunction(Body):
    type: Literal["function"]
    name: ToolName


class Format(Body):
    """Of the answer's text; `schema` and the like are for json_schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class TextOptions(Body):
    format: Format | None = None
    verbosity: str | None = None


class ResponseBody(Refusing):
    """Of /v1/responses. Fields that only chats have, such as top_k, are passed on to the chat."""

    refused = REFUSED_IN_RESPONSES
    model: Name
    input: str | Annotated[list[Item], Field(min_length=1, max_length=MOST_ITEMS)]
    instructions: str | None = None
    previous_response_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    store: bool | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=MOST_NEW)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    include: Annotated[list[str], Field(max_length=20)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    text: TextOptions | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    metadata: Metadata | None = None


def messages_of(body: ResponseBody) -> list[JsonDict]:
    """The messages of `input`, as chats have them."""
    if isinstance(body.input, str):
        return [{"role": "user", "content": body.input}]
    messages: list[JsonDict] = []
    for item in body.input:
        if item.type == "message":
            messages.append({"role": item.role, "content": joined(item.content)})
        elif item.type == "function_call_output":
            content = joined(item.output)
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": content})
        else:
            function = {"name": item.name, "arguments": item.arguments}
            call = {"id": item.call_id, "type": "function", "function": function}
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            messages[-1].setdefault("tool_calls", []).append(call)
    return messages


def chat_body(body: ResponseBody, sent: Mapping[str, Any], messages: Sequence[Any]) -> ChatBody:
    """The chat that a body asks for, which was `sent` with all its fields. Raises ApiError.

    `messages` are those of the whole conversation, without the instructions.
    """
    instructions = [{"role": "system", "content": body.instructions}] if body.instructions else []
    passed = {name: value for name, value in sent.items() if name not in ResponseBody.model_fields}
    passed.pop("stream_options", None)  # of other things than in chats
    wanted = {
        "model": body.model,
        "messages": [*instructions, *messages],
        "temperature": body.temperature,
        "top_p": body.top_p,
        "max_completion_tokens": body.max_output_tokens,
        "logprobs": LOGPROBS in (body.include or ()) or None,
        "top_logprobs": body.top_logprobs if LOGPROBS in (body.include or ()) else None,
        "tools": [_tool(tool) for tool in body.tools or ()],
        "tool_choice": _choice(body.tool_choice),
        "parallel_tool_calls": body.parallel_tool_calls,
    }
    if body.text is not None:
        wanted["verbosity"] = body.text.verbosity
        wanted["response_format"] = _response_format(body.text.format)
    return chat_of({**passed, **wanted}, NAMES)


def _tool(tool: FunctionTool) -> JsonDict:
    return {"type": "function", "function": tool.model_dump(exclude={"type"})}


def _choice(choice: str | NamedFunction | None) -> Any:
    if isinstance(choice, NamedFunction):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _response_format(wanted: Format | None) -> JsonDict | None:
    if wanted is None:
        return None
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    schema = wanted.model_dump(by_alias=True, exclude={"type"}, exclude_none=True)
    return {"type": "json_schema", "json_schema": schema}
