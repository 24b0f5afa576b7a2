"""What the bodies of all requests have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]


class Body(BaseModel):
    """Types are strict: a string is not a number. Fields that are not known are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class Refusing(Body):
    """A body some of whose fields are refused, with values that change nothing (see `fields`)."""

    refused: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _not_served(cls, body: Any) -> Any:
        for name in body if isinstance(body, dict) else ():
            unless = cls.refused.get(name)
            if unless is not None and body[name] is not None and body[name] not in unless:
                raise PydanticCustomError(
                    "not_served", "{field} is not served here: leave it out", {"field": name}
                )
        return body


class AnyPart(Body):
    """A part of a message's content; the types differ between the APIs."""

    type: str
    text: str


class Part(AnyPart):
    type: Literal["text"] = Field(description="Only text is served.")


Text = str | Annotated[list[Part], Field(max_length=1000)]


def joined(content: str | Sequence[AnyPart] | None) -> str:
    """The text of a message's content."""
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content or ())
