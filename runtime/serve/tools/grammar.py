"""Grammars of answers in which calls of tools are well formed, in Lark's syntax."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from runtime.engine import Constraint, ConstraintError, Model
from runtime.serve.body.closing import closed
from runtime.serve.body.forms import compiled
from runtime.serve.errors import invalid
from runtime.serve.tools.formats import Form
from runtime.serve.tools.request import Offer

log = logging.getLogger(__name__)

Schema = Mapping[str, Any]

# What a tool without parameters is called with.
_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
# As `json.dumps` does it.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


async def constraint_for(
    offer: Offer, form: Form, model: Model, content: Constraint | None
) -> Constraint | None:
    """What an answer that may call tools must look like; None if its calls cannot be constrained
    and need not be. `content` is what an answer without calls must look like.

    Raises:
        ApiError: calls must be constrained and cannot be.
    """
    if content is not None and content.kind != "schema":
        what = f"tools and a {content.kind} cannot both be used: leave one out"
        raise invalid(what, "tools")
    ids = {tag: model.tokenize(tag, special=True) for tag in form.tags if tag}
    grammar = tool_grammar(
        form,
        offer.schemas,
        offer.required,
        offer.several,
        {tag: tokens[0] for tag, tokens in ids.items() if len(tokens) == 1},
        None if content is None else json.loads(content.text),
    )
    try:
        return await compiled(Constraint.grammar(grammar), model)
    except ConstraintError as error:
        if offer.strict or content is not None:
            raise invalid(f"tools: {error}", "tools") from None
        log.debug("calls are not constrained: %s", error)
        return None


def tool_grammar(
    form: Form,
    tools: Mapping[str, Schema | None],
    required: bool,
    several: bool,
    tokens: Mapping[str, int],
    content: Schema | None = None,
) -> str:
    """A grammar of answers.

    Args:
        tools: the JSON schema of each tool's arguments by the tool's name; None is a tool without
            parameters.
        required: the answer consists of calls, at least one. Otherwise text may be before and
            after calls, and there may be none.
        several: more than one call is allowed, where the form has that.
        tokens: which of the form's tags are special tokens of the vocabulary, with their ids.
        content: a JSON schema of answers without calls; there is no other text then.
    """
    several = several and form.several
    opening, closing = form.tags
    calls = f"call ({_json(form.between)} call)*" if several else "call"
    text = r"TEXT: /(.|\n)*/"
    if required:
        rules = [f"start: {calls}"]
    elif content is not None:
        rules = [f"start: content | {calls}", f"content: {_of_schema(content)}"]
    elif not opening:  # an answer that begins as a call does is a call
        rules = ["start: TEXT | call", r"TEXT: /(\s*[^{\s](.|\n)*)?/"]
    elif opening in tokens:
        rules = ["start: TEXT " + ("(call TEXT)*" if several else "call?"), text]
    else:  # the text before a call ends with the tag
        rules = ["start: " + ("(before object)* TEXT" if several else "before object | TEXT"), text]
        rules.append(f"before[lazy]: /(.|\\n)*{re.escape(opening)}/")
    objects = []
    for number, (name, schema) in enumerate(tools.items()):
        head = form.head(name).removeprefix(opening)
        end = "}" + form.closing.removesuffix(closing)
        objects.append(f"{_json(head)} arguments_{number} {_json(end)} {_tag(closing, tokens)}")
        arguments = {"type": "object", **closed(schema or _NOTHING)}
        rules.append(f"arguments_{number}: {_of_schema(arguments)}")
    rules += [f"call: {_tag(opening, tokens)} object", "object: " + " | ".join(objects)]
    return "\n".join(rules)


def _tag(tag: str, tokens: Mapping[str, int]) -> str:
    return f"<[{tokens[tag]}]>" if tag in tokens else _json(tag) if tag else ""


def _of_schema(schema: Schema) -> str:
    return f"%json {_json({**schema, 'x-guidance': _SPACING})}"


def _json(value: Any) -> str:
    """JSON in which nothing looks like another syntax of grammars."""
    return json.dumps(value).replace("::=", "\\u003a:=")
