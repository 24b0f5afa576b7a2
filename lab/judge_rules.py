"""`python -m lab.judge_rules`: which rules of the judges change no verdict on any list of pairs.

Each is taken away alone: a regular expression, an alternative in it that is more than a word, a
rule in a table, a branch of an `if`. Words of a vocabulary are no rules. A rule without which all
verdicts stay the same is printed; delete it, or write the pair that shows what it is for. Only the
pairs whose verdict needed the function that has the rule are judged again.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from evaluation.judges import decision, judge, text
from evaluation.questions import read
from evaluation.records import Item
from runtime.settings import PROJECT_DIR
from tests import verdicts

MODULES = [
    "rules",
    "text",
    "decision",
    "names",
    "mentions",
    "facts",
    "dates",
    "quantities",
    "yes_no",
    "choice",
]
MODULES += ["chinese", "intervals", "math_text", "claims", "math"]
TESTS = PROJECT_DIR / "tests"
# An alternative that is no more than a word.
_WORD = re.compile(r"[\w ?'’]*")
# How a group of a regular expression opens.
_GROUP = re.compile(r"\((?:\?(?:P<\w+>|<[=!]|[:=!]|-?\w+(?:-\w+)?:))?")

Pair = tuple[Item, str]
Removal = tuple[str, Callable[[CodeType], bool], Callable[[], Any]]
"""What is taken away, which functions have it, and the context in which it is gone."""


def pairs() -> list[Pair]:
    """Questions with answers from all lists that have verdicts."""
    found: list[Pair] = []
    for path in sorted(TESTS.glob("judge_pairs_*.jsonl")):
        for row in map(json.loads, path.read_text("utf-8").splitlines()):
            references, choices = tuple(row["references"]), tuple(row.get("choices", ()))
            item = Item("1", row["subject"], row["question"], references, choices)
            found.append((item, row["answer"]))
    samples = PROJECT_DIR / "data" / "sample_questions.jsonl"
    items = {item.id: item for item in read(samples).items if item is not None}
    for row in map(json.loads, (TESTS / "read_by_hand.jsonl").read_text("utf-8").splitlines()):
        found.append((items[row["questionID"]], row["answer"]))
    for name in ("judges", "judges_choices", "judges_facts", "judge_math", "judge_dates"):
        found += _judged_by_tests(importlib.import_module(f"tests.test_{name}"))
    found += _judged_by_tests(importlib.import_module("tests.test_judge_hard_pairs"))
    return list(dict.fromkeys(found))


def _judged_by_tests(module: ModuleType) -> Iterator[Pair]:
    """What the parametrized tests of a module ask the judges, by running them."""
    asked: list[Pair] = []

    def record(item: Item, answer: str) -> Any:
        asked.append((item, answer))
        return judge(item, answer)

    for asking in (module, verdicts):
        asking.judge = record  # type: ignore[attr-defined]
    for test in vars(module).copy().values():
        marks = getattr(test, "pytestmark", [])
        if len(marks) != 1 or marks[0].name != "parametrize" or "evil" in test.__name__:
            continue
        names, rows = marks[0].args[:2]
        single = isinstance(names, str)
        for row in rows:
            with suppress(AssertionError, TypeError):
                test(*([row] if single else row))
    return iter(asked)


def alternatives(pattern: str) -> Iterator[tuple[str, str]]:
    """Each alternative of a regular expression, with the expression that lacks it."""
    groups: list[list[int]] = [[0]]
    at = 0
    while at <= len(pattern):
        sign = pattern[at] if at < len(pattern) else ")"
        if sign == "\\":
            at += 1
        elif sign == "[":
            at = pattern.index("]", at + 2)
        elif sign == "(":
            start = _GROUP.match(pattern, at)
            assert start
            groups.append([start.end()])
            at = start.end() - 1
        elif sign == "|":
            groups[-1] += [at, at + 1]
        elif sign == ")":
            spans = [*groups.pop(), at]
            parts = list(zip(spans[::2], spans[1::2], strict=True))
            for n, (start, end) in enumerate(parts if len(parts) > 1 else []):
                cut = (start, end + 1) if n < len(parts) - 1 else (start - 1, end)
                yield pattern[start:end], pattern[: cut[0]] + pattern[cut[1] :]
        at += 1


@contextmanager
def replaced(holder: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute with another value for the time being."""
    old = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, old)


def removals(module: ModuleType) -> Iterator[Removal]:
    """What can be taken out of a module."""
    for name, value in vars(module).copy().items():
        if name.startswith("__"):
            continue

        def uses(code: CodeType, name: str = name) -> bool:
            return name in code.co_names and code.co_filename == module.__file__

        if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
            nothing = re.compile("(?!)")
            yield name, uses, lambda n=name, o=nothing: replaced(module, n, o)
            for gone, rest in alternatives(value.pattern):
                if _WORD.fullmatch(gone):
                    continue
                with suppress(re.error):
                    other = re.compile(rest, value.flags)
                    yield f"{name}: {gone}", uses, lambda n=name, o=other: replaced(module, n, o)
        elif isinstance(value, tuple | list) and len(value) > 1:
            for entry in value:
                left = type(value)(each for each in value if each is not entry)
                yield f"{name}: {entry}", uses, lambda n=name, o=left: replaced(module, n, o)
        elif isinstance(value, FunctionType) and value.__module__ == module.__name__:
            own = value.__code__
            for line, code in _without_branches(value):
                gone = f"{name}, line {line}"
                yield gone, own.__eq__, lambda f=value, c=code: replaced(f, "__code__", c)


def _without_branches(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The code of a function without one of its branches or of the operands of an `or`."""
    source, first = inspect.getsourcelines(function)
    if source[0].startswith("@") or function.__closure__:
        return
    tree = ast.parse("".join(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.If):
            test, node.test = node.test, ast.Constant(False)
            yield f"{first + node.lineno - 1}: if {ast.unparse(test)}", _code(tree, function)
            node.test = test
        elif isinstance(node, ast.BoolOp):
            for n, operand in enumerate(node.values):
                node.values[n] = ast.Constant(isinstance(node.op, ast.And))
                told = f"{first + operand.lineno - 1}: {ast.unparse(operand)}"
                yield told, _code(tree, function)
                node.values[n] = operand


def _code(tree: ast.Module, function: FunctionType) -> Any:
    compiled = compile(ast.fix_missing_locations(tree), function.__code__.co_filename, "exec")
    return next(c for c in compiled.co_consts if getattr(c, "co_name", "") == function.__name__)


def main() -> int:
    """Print the rules that no pair needs."""
    parser = argparse.ArgumentParser(prog="python -m lab.judge_rules", description=__doc__)
    parser.add_argument("modules", nargs="*", default=MODULES, help="default: all")
    options = parser.parse_args()
    asked = pairs()
    judged = [(pair, *traced(pair)) for pair in asked]
    print(f"{len(asked)} pairs", flush=True)
    for name in options.modules:
        module = importlib.import_module(f"evaluation.judges.{name}")
        for rule, has, without in list(removals(module)):
            concerned = [(pair, right) for pair, right, codes in judged if any(map(has, codes))]
            with without():
                if same(concerned):
                    print(f"{name}.{rule}", flush=True)
    return 0


def traced(pair: Pair) -> tuple[bool, set[CodeType]]:
    """Whether an answer is right, and the functions that were called to find it out."""
    called: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            called.add(frame.f_code)

    _forget()
    sys.setprofile(note)
    try:
        return judge(*pair).correct, called
    finally:
        sys.setprofile(None)


def _forget() -> None:
    decision.deciding.cache_clear()
    text.read.cache_clear()


def same(judged: list[tuple[Pair, bool]]) -> bool:
    """Whether all verdicts are still the same, and none fails."""
    for pair, right in judged:
        _forget()
        try:
            if judge(*pair).correct != right:
                return False
        except Exception:
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
