"""Chat templates, rendered where they can do no harm.

A template is a program out of a model file. Jinja's sandbox keeps it from the machine, but not
from running forever or taking all memory, and Python cannot stop itself in the middle of a
computation. So templates run in a child process, which is ended at its limits.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from types import FrameType
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.common import child

Messages = Sequence[dict[str, str]]

# What all renderings of a template together may take.
SECONDS = 5  # of computing
MEMORY = 1 << 30  # bytes, beyond what Python itself takes
MOST_CHARS = 1_000_000  # of a template, and of each text that it makes
# On the clock, however busy the machine; a process that only waits is ended too.
_PATIENCE = 120
_TOO_LARGE = f"it takes more than {MEMORY >> 30} GiB of memory"


@dataclass(frozen=True)
class Rendered:
    """What a template made of some messages, or why it made nothing of them."""

    text: str = ""
    problem: str = ""


class TemplateLimitError(Exception):
    """A template takes more time or memory than any prompt needs."""


def render_all(
    template: str,
    conversations: Sequence[tuple[Messages, bool]],
    bos: str = "",
    eos: str = "",
    seconds: int = SECONDS,
    variables: Mapping[str, Any] | None = None,
) -> list[Rendered]:
    """Render a chat template as transformers does, without thinking, for each conversation.

    Where no process can be started it is done in this one, within the same limits as far as
    Python can hold them: a single computation on huge numbers is then not interrupted. Memory
    is limited on Linux, elsewhere only the time in which it could be filled.

    Args:
        conversations: messages, each with "role" and "content"; and whether the prompt goes on
            with the assistant's words.
        bos, eos: texts of the model's special tokens.
        seconds: of processor time for all of them.
        variables: further variables of the template, such as "tools"; JSON. They replace those
            with the same name.

    Raises:
        TemplateLimitError: it is too long, takes too much time or memory, writes too much, or
            crashes Python itself.
    """
    if len(template) > MOST_CHARS:
        raise TemplateLimitError(f"it is longer than {MOST_CHARS:,} characters")
    job = {
        "template": template,
        "conversations": [[list(messages), goes_on] for messages, goes_on in conversations],
        "bos": bos,
        "eos": eos,
        "seconds": seconds,
        "variables": dict(variables or {}),
    }
    try:
        outcome = child.call(
            "runtime.templates:render_job",
            job,
            _PATIENCE,
            child.Limits(cpu_seconds=seconds, memory=MEMORY),
        )
    except child.NoChildError:
        return _render_here(job)
    except child.ChildEndedError as error:
        raise TemplateLimitError(_why_ended(error.status, seconds)) from None
    if isinstance(outcome, str):
        raise TemplateLimitError(outcome)
    return [Rendered(**rendered) for rendered in outcome]


def render_job(job: dict[str, Any]) -> str | list[dict[str, str]]:
    """Render a job of `render_all` in the child process; text says which limit was exceeded."""
    try:
        return [asdict(rendered) for rendered in _render(job)]
    except MemoryError:
        return _TOO_LARGE
    except TemplateLimitError as error:
        return str(error)


def _why_ended(status: int | None, seconds: int) -> str:
    if status is None:
        return f"it was not rendered in {_PATIENCE} seconds"
    if status == -signal.SIGXCPU:
        return _too_long(seconds)
    return f"the process that rendered it crashed (exit status {status})"


def _too_long(seconds: int) -> str:
    return f"it takes more than {seconds} seconds"


def _render_here(job: dict[str, Any]) -> list[Rendered]:
    try:
        with _time_limit(job["seconds"]), _memory_limit():
            return _render(job)
    except MemoryError:
        raise TemplateLimitError(_TOO_LARGE) from None


@contextmanager
def _memory_limit() -> Iterator[None]:
    """Limit this process to `MEMORY` bytes more than it has, on Linux."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    child.limit_memory(MEMORY)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TemplateLimitError in what this thread runs within, line by line, at the limit."""
    end = time.thread_time() + seconds

    def check(frame: FrameType, event: str, argument: Any) -> Any:
        if time.thread_time() > end:
            raise TemplateLimitError(_too_long(int(seconds)))
        return check

    before = sys.gettrace()
    sys.settrace(check)
    try:
        yield
    finally:
        sys.settrace(before)


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; here it shows them."""

    tags = {"generation"}  # noqa: RUF012  (jinja's own spelling)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """The environment of transformers' chat templates, and the names in it."""

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension, _Generation]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(
        value, **{"ensure_ascii": False, **options}
    )
    environment.globals.update(
        raise_exception=raise_exception, strftime_now=lambda form: datetime.now().strftime(form)
    )
    return environment


def _render(job: dict[str, Any]) -> list[Rendered]:
    """Render all conversations of a job; a template may fail at some and not at others.

    Raises TemplateLimitError or MemoryError where all would fail.
    """
    try:
        template = _environment().from_string(job["template"])
    except (MemoryError, TemplateLimitError):
        raise
    except Exception as error:
        return [_failed(error)] * len(job["conversations"])
    rendered = []
    for messages, goes_on in job["conversations"]:
        try:
            text = template.render(
                {
                    "messages": messages,
                    "add_generation_prompt": goes_on,
                    "enable_thinking": False,
                    "bos_token": job["bos"],
                    "eos_token": job["eos"],
                    **job["variables"],
                }
            )
        except (MemoryError, TemplateLimitError):
            raise
        except Exception as error:  # a template is a program: it may fail in any way
            rendered.append(_failed(error))
            continue
        if len(text) > MOST_CHARS:
            raise TemplateLimitError(f"it writes more than {MOST_CHARS:,} characters")
        rendered.append(Rendered(text))
    return rendered


def _failed(error: Exception) -> Rendered:
    return Rendered(problem=f"{type(error).__name__}: {error}"[:500])
