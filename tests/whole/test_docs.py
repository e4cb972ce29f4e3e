"""The pages of docs/ and the README: what they name is there, and they can be read."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import amplify_motion_tokenizer
from amplify_motion_tokenizer.commands import COMMANDS, cli
from amplify_motion_tokenizer.config.keys import SETTINGS
from benchmarks.pictures.diagrams import FLOORS
from tests.support.doc_pages import DOCS, PAGES
from tests.support.markdown import Page
from tests.test_architecture import ORDER

REPO = Path(__file__).parents[2]
DOC_PAGES = [Page(path) for path in sorted(DOCS.rglob("*.md"))]
ALL = [*DOC_PAGES, *(Page(REPO / name) for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"))]
SCRIPTS = {"preprocess_videos.py": "preprocess", "train.py": "train", "inference_short_clip.py": "infer"}
COLUMNS, WORDS, IMAGES_BYTES = 120, 80, 1_500_000


def named(page: Page) -> str:
    return page.path.relative_to(REPO).as_posix()


@pytest.mark.parametrize("page", ALL, ids=named)
def test_lines_and_paragraphs_are_short(page: Page) -> None:
    # A row of a table cannot be broken.
    long = [line for line in page.text.splitlines() if len(line) > COLUMNS and not line.startswith("|")]
    assert not long
    assert not [told for told in page.paragraphs if len(told.split()) > WORDS]


@pytest.mark.parametrize("page", DOC_PAGES, ids=named)
def test_a_page_begins_with_its_question(page: Page) -> None:
    title, blank, *rest = page.text.splitlines()
    assert title.startswith("# ") and not blank
    assert rest[0][:1].isalpha() or rest[0].startswith("`"), "a page begins with a sentence"
    first = " ".join(rest[:3])
    assert "?" in title + first, "the first three lines ask what the page answers"


@pytest.mark.parametrize("page", ALL, ids=named)
def test_links_lead_somewhere(page: Page) -> None:
    for link in page.links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.exists(), link
        inside = page.path.is_relative_to(DOCS)
        assert not inside or target.is_relative_to(DOCS), f"{link} leads out of the site"
        assert not anchor or anchor in Page(target).anchors, link


def test_the_site_shows_every_page_once() -> None:
    nav = yaml.safe_load((REPO / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(pages_of(nav)) == sorted(page.path.relative_to(DOCS).as_posix() for page in DOC_PAGES)


def pages_of(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages_of(part)]


@pytest.mark.parametrize("page", ALL, ids=named)
def test_commands_and_flags_exist(page: Page) -> None:
    for words in page.commands():
        name, rest = command_of(words)
        if name is None:
            continue
        assert name in COMMANDS, words
        flags = flags_of(name, rest)
        for word in rest:
            flag = word.partition("=")[0]
            if re.match(r"--[A-Za-z]", flag) and flag not in flags:
                assert flag.removeprefix("--") in SETTINGS, f"{flag} in {' '.join(words)}"


def command_of(words: list[str]) -> tuple[str | None, list[str]]:
    """The command of a command line, and what follows it; None where it is none of ours."""
    for place, word in enumerate(words):
        if Path(word).name in SCRIPTS:
            return SCRIPTS[Path(word).name], words[place + 1 :]
        if Path(word).name in ("motion-tokenizer", "amplify_motion_tokenizer"):
            return words[place + 1], words[place + 2 :]
    return None, []


def flags_of(name: str, rest: list[str]) -> set[str]:
    module = importlib.import_module(f"amplify_motion_tokenizer.commands.{name}")
    own = module.FLAGS
    if not any(flag.startswith("--") for flag in own):
        kind = rest[0] if rest and rest[0] in own else next(iter(own))
        own = own[kind]
    common = {"--config", "--help-all"} if hasattr(module, "shows") else set()
    return {*own, *cli.FOR_ALL, *common, "--help"}


@pytest.mark.parametrize("name", PAGES)
def test_pages_that_are_made_are_true(name: str) -> None:
    there = (DOCS / name).read_text(encoding="utf-8")
    assert there == PAGES[name](), "run python -m tests.support.doc_pages"


def test_the_reference_is_whole() -> None:
    names = ("api.md", "settings.md", "commands.md")
    api, settings, commands = ((DOCS / name).read_text(encoding="utf-8") for name in names)
    for name in amplify_motion_tokenizer.__all__:
        assert name == "__version__" or f"\n## {name}\n" in api
    assert all(f"**`{key}`**" in settings for key in SETTINGS)
    assert all(f"\n## {name}\n" in commands for name in COMMANDS)


def test_the_extras_that_the_pages_name_are_there() -> None:
    declared = (
        (REPO / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1]
    )
    extras = set(re.findall(r"^(\w+) = \[", declared.split("\n[")[0], re.MULTILINE)) - {"test", "lint"}
    table = Page(DOCS / "quickstart.md").text.split("| extra | for |")[1].split("\n\n")[0]
    named_extras = {
        name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert named_extras == extras


def test_pages_that_the_code_names_are_there() -> None:
    files = [*(REPO / "amplify_motion_tokenizer").rglob("*.py"), *(REPO / "configs").glob("*.yaml")]
    found = {name for path in files for name in re.findall(r"docs/[\w/]+\.\w+", path.read_text("utf-8"))}
    assert found and not [name for name in found if not (REPO / name).is_file()]


def test_pictures_are_small_and_shown() -> None:
    pictures = list((DOCS / "images").iterdir())
    assert sum(path.stat().st_size for path in pictures) < IMAGES_BYTES
    shown = {(page.path.parent / link).resolve() for page in ALL for link in page.links}
    assert {path.resolve() for path in pictures} <= shown


def test_the_drawn_house_is_the_house() -> None:
    assert list(FLOORS) == ORDER[::-1]
    drawn = (DOCS / "images/house.svg").read_text(encoding="utf-8")
    assert re.findall(r">(\w+)/<", drawn) == ORDER[::-1]


def test_the_citation_can_be_read() -> None:
    told = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= told.keys() and told["cff-version"] == "1.2.0"
    assert told["version"] == amplify_motion_tokenizer.__version__
    for work in told["references"]:
        assert {"type", "title", "authors"} <= work.keys(), work
        assert all({"name"} <= who.keys() or {"family-names"} <= who.keys() for who in work["authors"])
