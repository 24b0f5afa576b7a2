"""From the messages of a request to the turns of a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.serve.body.schema import Message
from runtime.serve.catalog import Served
from runtime.serve.chat.usage import Turn
from runtime.serve.errors import ApiError, invalid
from runtime.serve.tools.formats import Form


def turns_of(messages: Sequence[Message], served: Served) -> list[Turn]:
    """Roles and texts of messages for a model.

    Calls of tools are written in the model's form. Results come in the order of their calls, since
    prompts do not show the ids that say which result belongs to which call.

    Raises:
        ApiError: a call and its result do not belong together, or the model has no form for calls.
    """
    turns: list[Turn] = []
    results: dict[str, str | None] = {}  # of the last calls, by id
    for message in messages:
        if message.role in ("tool", "function"):
            id_ = message.result_of or ""
            if results.get(id_, "") is not None:
                raise _error(f"the result for {id_!r} must follow a message that has this call")
            results[id_] = message.text
            continue
        turns += _in_order(results)
        calls = message.calls
        results = dict.fromkeys(call.id for call in calls)
        if len(results) < len(calls):
            raise _error("two calls of a message have the same id")
        text = message.text
        if calls:
            pairs = [(call.function.name, call.function.arguments) for call in calls]
            text = form_for_tools(served).write(text, pairs)
        # OpenAI's "developer" is the system.
        role = "system" if message.role == "developer" else message.role
        turns.append((role, text))
    return turns + _in_order(results)


def form_for_tools(served: Served) -> Form:
    """How a model writes calls of tools. Raises ApiError if its chat template does not say that."""
    form = served.conversations.form
    if form is None:
        raise ApiError(
            400,
            f"model {served.id!r} cannot call tools: its chat template does not know tools, or has"
            " them written in a form that this server cannot read",
            "tools",
            "tools_not_supported",
        )
    return form


def _in_order(results: Mapping[str, str | None]) -> list[Turn]:
    turns = []
    for id_, text in results.items():
        if text is None:
            raise _error(
                f"the call {id_!r} has no result: send a message with role 'tool' or 'function'"
            )
        turns.append(("tool", text))
    return turns


def _error(message: str) -> ApiError:
    return invalid(message, "messages")
