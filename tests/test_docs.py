"""The pages' links lead somewhere, and the commands on them have these options."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import runpy
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from runtime.serve.options import Options
from runtime.settings import PROJECT_DIR, all_settings

FOLDERS = [".", "docs", "benchmarks", "lab", "data/corpora", "kb", "loras", "models"]
PAGES = sorted(page for folder in FOLDERS for page in (PROJECT_DIR / folder).glob("*.md"))
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# Up to the end of the line, or of the lines where a backslash is at the end.
COMMAND = re.compile(r"((?:\w+=\S+ +(?:\\\n *)?)*)(?:\S*/)?python -m ([\w.]+)((?:[^\n`\\]|\\\n)*)")
OPTION = re.compile(r"(?<!\S)--[a-z][\w-]*")
# Commands and variables of others that are on the pages, too.
OTHER_COMMANDS = {"pip"}
OTHER_VARIABLES = {"RAY_ADDRESS", "PEFT_ADAPTER_SQL"}  # the latter of a declared subject


def name_of(page: Path) -> str:
    return str(page.relative_to(PROJECT_DIR))


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


@cache
def anchors(page: Path) -> set[str]:
    """Those that GitHub gives a page's headings."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCED.sub("", text_of(page))):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(f"{anchor}-1" if anchor in found else anchor)
    return found


def links(page: Path) -> list[tuple[Path, str]]:
    """The files of this project that a page links to, with the anchors."""
    pairs = [link.partition("#") for link in LINK.findall(FENCED.sub("", text_of(page)))]
    return [
        ((page.parent / path).resolve() if path else page, anchor)
        for path, _, anchor in pairs
        if ":" not in path
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


def test_the_readme_leads_to_every_page_of_docs() -> None:
    found: set[Path] = set()
    waiting = [PROJECT_DIR / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in found:
            found.add(page)
            waiting += [target for target, _ in links(page) if target.suffix == ".md"]
    assert set((PROJECT_DIR / "docs").glob("*.md")) <= found


@cache
def help_of(module: str) -> str:
    """What `python -m MODULE --help` prints."""
    text, arguments = io.StringIO(), sys.argv
    sys.argv = [module, "--help"]
    try:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            runpy.run_module(module, run_name="__main__")
    finally:
        sys.argv = arguments
    return text.getvalue()


@pytest.mark.filterwarnings("ignore::RuntimeWarning:runpy")  # modules that are imported already
@pytest.mark.parametrize("page", [p for p in PAGES if COMMAND.search(text_of(p))], ids=name_of)
def test_commands_have_the_options_that_they_are_given(page: Path) -> None:
    settings = {setting.name for setting in all_settings()}
    wrong = []
    for variables, module, rest in COMMAND.findall(text_of(page)):
        names = set(re.findall(r"(\w+)=", re.sub(r"'[^']*'", "", variables)))
        wrong += sorted(names - settings - OTHER_VARIABLES)
        if module in OTHER_COMMANDS:
            continue
        if importlib.util.find_spec(module) is None:
            wrong.append(f"python -m {module}")
            continue
        if module.startswith("lab."):  # experiments load their libraries even for help
            continue
        for option in OPTION.findall(rest.partition(" -- ")[0].partition(" #")[0]):
            # Those of subjects are not in the help one by one.
            shown = "--data-SUBJECT" if option.startswith("--data-") else option
            if not re.search(rf"{shown}\b", help_of(module)):
                wrong.append(f"python -m {module} {option}")
    assert not wrong


def test_the_servers_page_has_its_options_and_their_defaults() -> None:
    page = text_of(PROJECT_DIR / "docs" / "server.md")
    rows = dict(re.findall(r"^\| `--([\w-]+)` \| (.+?) \|", page, re.MULTILINE))
    expected = {each.name.replace("_", "-"): each.default for each in fields(Options)}
    del expected["api-key"]  # only from the environment
    assert rows.keys() == expected.keys()
    for name, default in expected.items():
        if default or (default == 0 and not isinstance(default, bool)):
            shown = f"{default:g}" if isinstance(default, float) else default
            assert rows[name] == f"`{shown}`", name
