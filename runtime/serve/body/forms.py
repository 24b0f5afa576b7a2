"""What a body requires of its answer's form: the fields of OpenAI, vLLM and llama-server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

from pydantic import Field

from runtime.engine import Constraint, ConstraintError, Model
from runtime.serve.body.closing import closed
from runtime.serve.body.common import Body, Refusing
from runtime.serve.body.fields import REFUSED_IN_STRUCTURED_OUTPUTS
from runtime.serve.errors import invalid

Json = dict[str, Any] | str | bool
Choices = Annotated[list[str], Field(max_length=10_000)]

# A hostile schema takes up to seconds to be refused; only others that are new wait for it.
_COMPILER = ThreadPoolExecutor(1, "constraints")


class JsonSchema(Body):
    name: Annotated[str, Field(max_length=500)] | None = None
    description: str | None = None
    schema_: dict[str, Any] | bool | None = Field(None, alias="schema")
    strict: bool | None = Field(None, description="The schema is kept to in any case.")


class ResponseFormat(Body):
    """Of OpenAI."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(Refusing):
    """Of vLLM."""

    refused = REFUSED_IN_STRUCTURED_OUTPUTS
    json_: Json | None = Field(None, alias="json")
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    json_object: bool | None = None


class Forms(Refusing):
    """The fields of a body that give its answer a form; at most one may."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Json | None = None
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None
    grammar: str | None = None
    json_schema: Json | None = None

    def constraint(self) -> Constraint | None:
        """What the answer must look like.

        Raises:
            ApiError: two fields demand something, or one something that cannot be.
        """
        (field, kind, value), *more = [*self._demands(), ("", "", None)]
        if not field:
            return None
        if len(more) > 1:
            other = more[0][0]
            raise invalid(f"{field} and {other} cannot both be used: leave one out", other)
        make: Callable[[Any], Constraint] = {
            "schema": Constraint.schema,
            "pattern": Constraint.pattern,
            "choices": Constraint.choices,
            "grammar": Constraint.grammar,
            "object": lambda _: Constraint.json_object(),
        }[kind]
        try:
            return make(value)
        except ConstraintError as error:
            raise invalid(str(error), field) from None

    async def compiled(self, model: Model) -> Constraint | None:
        """The same, compiled for a model.

        Raises:
            ApiError: as `constraint`, or it cannot be compiled within the limits.
        """
        constraint = self.constraint()
        try:
            return constraint and await compiled(constraint, model)
        except ConstraintError as error:
            raise invalid(str(error), next(self._demands())[0]) from None

    def _demands(self) -> Iterator[tuple[str, str, Any]]:
        """(field, kind of constraint, value)."""
        wanted, outputs = self.response_format, self.structured_outputs
        if wanted and wanted.type == "json_object":
            yield "response_format", "object", None
        elif wanted and wanted.type == "json_schema":
            schema = wanted.json_schema and wanted.json_schema.schema_
            if schema is None:
                what = "response_format.json_schema.schema is missing"
                raise invalid(what, "response_format")
            yield (
                "response_format",
                "schema",
                closed(schema) if isinstance(schema, dict) else schema,
            )
        if outputs and outputs.json_object:
            yield "structured_outputs", "object", None
        fields = [
            ("structured_outputs", "schema", outputs and outputs.json_),
            ("structured_outputs", "pattern", outputs and outputs.regex),
            ("structured_outputs", "choices", outputs and outputs.choice),
            ("structured_outputs", "grammar", outputs and outputs.grammar),
            ("guided_json", "schema", self.guided_json),
            ("guided_regex", "pattern", self.guided_regex),
            ("guided_choice", "choices", self.guided_choice),
            ("guided_grammar", "grammar", self.guided_grammar),
            ("grammar", "grammar", self.grammar),
            ("json_schema", "schema", self.json_schema),
        ]
        yield from (each for each in fields if each[2] not in (None, "", []))


async def compiled(constraint: Constraint, model: Model) -> Constraint:
    """A constraint, compiled for a model, without delaying requests that have none.

    Raises:
        ConstraintError: it cannot be compiled within the limits.
    """
    if model.grammars.knows(constraint):
        model.grammars.compile(constraint)
    else:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(_COMPILER, model.grammars.compile, constraint)
    return constraint
