"""`python -m lab.judge_rules`: which rules of the judges change no verdict on any list of pairs.

Each is taken away alone: a regular expression, an alternative in it that is more than a word, a
rule in a table, a branch of an `if`. Words of a vocabulary are no rules. A rule without which all
verdicts stay the same is printed; delete it, or write the pair that shows what it is for.
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
from types import FunctionType, ModuleType
from typing import Any

from evaluation.judges import decision, judge, values
from evaluation.questions import read
from evaluation.records import Item
from runtime.settings import PROJECT_DIR

MODULES = ["rules", "text", "names", "mentions", "facts", "dates", "quantities", "yes_no", "choice"]
MODULES += ["chinese", "intervals", "math_text", "math"]
TESTS = PROJECT_DIR / "tests"
# An alternative that is no more than a word.
_WORD = re.compile(r"[\w ?'’]*")
# How a group of a regular expression opens.
_GROUP = re.compile(r"\((?:\?(?:P<\w+>|<[=!]|[:=!]|-?\w+(?:-\w+)?:))?")


def pairs() -> list[tuple[Item, str]]:
    """Questions with answers from all lists that have verdicts."""
    found: list[tuple[Item, str]] = []
    for path in sorted(TESTS.glob("judge_pairs_*.jsonl")):
        for row in map(json.loads, path.read_text("utf-8").splitlines()):
            references, choices = tuple(row["references"]), tuple(row.get("choices", ()))
            item = Item("1", row["subject"], row["question"], references, choices)
            found.append((item, row["answer"]))
    samples = PROJECT_DIR / "data" / "sample_questions.jsonl"
    items = {item.id: item for item in read(samples).items if item is not None}
    for row in map(json.loads, (TESTS / "read_by_hand.jsonl").read_text("utf-8").splitlines()):
        found.append((items[row["questionID"]], row["answer"]))
    for name in ("test_judges", "test_judge_math", "test_judge_dates", "test_judge_hard_pairs"):
        found += _judged_by_tests(importlib.import_module(f"tests.{name}"))
    return list(dict.fromkeys(found))


def _judged_by_tests(module: ModuleType) -> Iterator[tuple[Item, str]]:
    """What the parametrized tests of a module ask the judges, by running them."""
    asked: list[tuple[Item, str]] = []

    def record(item: Item, answer: str) -> Any:
        asked.append((item, answer))
        return judge(item, answer)

    module.judge = record  # type: ignore[attr-defined]
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
            start = re.compile(r"\((?:\?(?:P<\w+>|<[=!]|[:=!]|-?\w+(?:-\w+)?:))?").match(
                pattern, at
            )
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


def removals(module: ModuleType) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What can be taken out of a module, each with the context in which it is gone."""
    for name, value in vars(module).copy().items():
        if name.startswith("__"):
            continue
        if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
            nothing = re.compile("(?!)")
            yield f"{name}", lambda n=name, o=nothing: replaced(module, n, o)
            for gone, rest in alternatives(value.pattern):
                if _WORD.fullmatch(gone):
                    continue
                with suppress(re.error):
                    other = re.compile(rest, value.flags)
                    yield f"{name}: {gone}", lambda n=name, o=other: replaced(module, n, o)
        elif isinstance(value, tuple | list) and len(value) > 1:
            for entry in value:
                left = type(value)(each for each in value if each is not entry)
                yield f"{name}: {entry}", lambda n=name, o=left: replaced(module, n, o)
        elif isinstance(value, FunctionType) and value.__module__ == module.__name__:
            for line, code in _without_branches(value):
                yield f"{name}, line {line}", lambda f=value, c=code: replaced(f, "__code__", c)


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
    before = verdicts(asked)
    print(f"{len(asked)} pairs", flush=True)
    for name in options.modules:
        module = importlib.import_module(f"evaluation.judges.{name}")
        for rule, without in list(removals(module)):
            with without():
                _forget()
                if verdicts(asked, before) is not None:
                    print(f"{name}.{rule}", flush=True)
            _forget()
    return 0


def _forget() -> None:
    """Empty what the judges keep of texts that they have read."""
    values.read.cache_clear()
    decision.deciding.cache_clear()


def verdicts(asked: list[tuple[Item, str]], wanted: list[bool] | None = None) -> list[bool] | None:
    """Whether each answer is right; None as soon as one is not as wanted, or fails."""
    found = []
    for n, (item, answer) in enumerate(asked):
        try:
            right = judge(item, answer).correct
        except Exception:
            return None
        if wanted is not None and wanted[n] != right:
            return None
        found.append(right)
    return found


if __name__ == "__main__":
    sys.exit(main())
