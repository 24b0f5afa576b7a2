"""The forms in which models write calls of tools.

A chat template tells the model in its prompt how to write a call. `FORMS` has the forms that are
known, `form_of` finds the one that a prompt tells. `reader` reads calls, and `grammar` has models
write them well formed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """A way to write a call: text around a JSON object of a name and arguments."""

    told: re.Pattern[str]  # matches what a prompt says of the form
    opening: str  # before the object; "" where nothing is
    closing: str  # after it
    arguments: str  # the object's key for the arguments; its other key is "name"
    between: str  # text between two calls
    several: bool  # the model may write more than one call

    def write(self, text: str, calls: Sequence[tuple[str, str]]) -> str:
        """What a model writes that says `text`, if any, and then calls tools by name and JSON."""
        written = self.between.join(
            f"{self.head(name)}{arguments}}}{self.closing}" for name, arguments in calls
        )
        return "\n".join(part for part in (text, written) if part)

    def head(self, name: str) -> str:
        """A call up to its arguments."""
        return f'{self.opening}{{"name": {json.dumps(name)}, "{self.arguments}": '

    @property
    def tags(self) -> tuple[str, str]:
        """What begins and ends a call, without blanks; "" where there is nothing."""
        return self.opening.strip(), self.closing.strip()


FORMS = (
    # Qwen 2.5 and 3, Hermes, SmolLM 3
    Form(
        told=re.compile(r"<tool_call>\s*\{"),
        opening="<tool_call>\n",
        closing="\n</tool_call>",
        arguments="arguments",
        between="\n",
        several=True,
    ),
    # Llama 3.1 to 3.3
    Form(
        told=re.compile(r'"name": function name,\s*"parameters":'),
        opening="",
        closing="",
        arguments="parameters",
        between="; ",
        several=False,
    ),
)


def form_of(prompt: str) -> Form | None:
    """The form in which a prompt with tools tells the model to write calls, if it is known."""
    return next((form for form in FORMS if form.told.search(prompt)), None)
