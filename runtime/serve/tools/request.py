"""Tools in a request: what may be called, and the calls and results in its messages.

`functions` and `function_call` are the older form of the same: one call at most, without an id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from runtime.serve.body.common import Body

MOST_TOOLS = 128
MOST_CALLS = 128

ToolName = Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]
CallId = Annotated[str, Field(min_length=1, max_length=200)]


class Function(Body):
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @field_validator("parameters")
    @classmethod
    def _an_object(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema and schema.get("type", "object") != "object":
            raise ValueError("the schema must be of type object")
        return schema


class Tool(Body):
    type: Literal["function"]
    function: Function

    def shown(self) -> dict[str, Any]:
        """As chat templates get it. Some fail where there is no description or schema."""
        function = self.function
        return {
            "type": "function",
            "function": {
                "name": function.name,
                "description": function.description or "",
                "parameters": function.parameters or {"type": "object", "properties": {}},
            },
        }


class Named(Body):
    name: ToolName


class NamedTool(Body):
    type: Literal["function"]
    function: Named


ToolChoice = Literal["none", "auto", "required"] | NamedTool
FunctionChoice = Literal["none", "auto"] | Named


class Called(Body):
    name: ToolName
    arguments: str


class ToolCall(Body):
    """A call in a message of the assistant."""

    id: CallId
    type: Literal["function"] = "function"
    function: Called


# The id of a call in the older form.
FUNCTION_CALL = "function_call"


@dataclass(frozen=True)
class Offer:
    """What an answer may call."""

    tools: tuple[Tool, ...]  # those that the prompt shows
    schemas: dict[str, dict[str, Any] | None]  # of arguments, by the names that may be called
    required: bool  # the answer must call at least one
    several: bool  # it may call more than one
    strict: bool  # the arguments must follow their schemas


def offer(tools: Sequence[Tool], choice: ToolChoice | None, several: bool) -> Offer | None:
    """What an answer may call; None if that is nothing. Raises ValueError."""
    schemas = {tool.function.name: tool.function.parameters for tool in tools}
    if len(schemas) < len(tools):
        raise ValueError("two tools have the same name")
    if isinstance(choice, NamedTool):
        name = choice.function.name
        if name not in schemas:
            raise ValueError(f"tool_choice names {name!r}, which is not in tools")
        return Offer(tuple(tools), {name: schemas[name]}, True, False, True)
    if choice == "required" and not tools:
        raise ValueError("tool_choice is 'required', but there are no tools")
    if choice == "none" or not tools:
        return None
    required = choice == "required"
    strict = required or any(tool.function.strict for tool in tools)
    return Offer(tuple(tools), schemas, required, several, strict)


def offer_of_functions(
    functions: Sequence[Function], choice: FunctionChoice | None
) -> Offer | None:
    """The same for the older form. Raises ValueError."""
    tools = [Tool(type="function", function=function) for function in functions]
    if isinstance(choice, Named):
        return offer(tools, NamedTool(type="function", function=choice), several=False)
    return offer(tools, choice, several=False)
