"""Has calls of tools keep to their form and to the schemas of their arguments."""

from __future__ import annotations

import json
import logging

from runtime.engine import Constraint, ConstraintError, Model
from runtime.serve.body.forms import compiled
from runtime.serve.errors import ApiError
from runtime.serve.tools.formats import Form
from runtime.serve.tools.grammar import tool_grammar
from runtime.serve.tools.request import Offer

log = logging.getLogger(__name__)


async def constraint_for(
    offer: Offer, form: Form, model: Model, content: Constraint | None
) -> Constraint | None:
    """What an answer that may call tools must look like; None if its calls cannot be constrained
    and need not be.

    Args:
        content: what an answer without calls must look like.

    Raises:
        ApiError: calls must be constrained and cannot be.
    """
    if content is not None and content.kind != "schema":
        message = f"tools and a {content.kind} cannot both be kept to: leave one out"
        raise ApiError(400, message, "tools", "invalid_value")
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
            raise ApiError(400, f"tools: {error}", "tools", "invalid_value") from None
        log.debug("calls are not constrained: %s", error)
        return None
