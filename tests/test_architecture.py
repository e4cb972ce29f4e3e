"""The house: which folder may import which, how long files and functions are, what the README says of it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import amplify_motion_tokenizer
from tests.support import commands_file

REPO = Path(__file__).parents[1]
PACKAGE = REPO / "amplify_motion_tokenizer"

ORDER = [
    "config", "video", "jobs", "trackers", "tracks", "scenes", "data", "models", "evaluation", "training",
    "codes", "report", "commands",
]  # fmt: skip
"""Each folder imports only from itself, from those before it and from the package's own modules."""

FEWER = {"models": ["config"]}
"""Folders that may import less than the order allows."""

DATA = ["pretrained"]
"""Folders that hold no code."""

FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE, MAX_FUNCTION = 400, 60


def imported(path: Path) -> Iterator[str]:
    """The folders of the package that a file imports from; "" for its own modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == PACKAGE.name:
                folder = rest.split(".")[0]
                yield folder if (PACKAGE / folder).is_dir() else ""


def folder_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else ""


def test_folders_are_those_of_the_order():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {*ORDER, *DATA}
    assert not [path for name in DATA for path in (PACKAGE / name).rglob("*.py")]


@pytest.mark.parametrize("folder", ORDER)
def test_imports_run_one_way(folder):
    allowed = {"", folder, *FEWER.get(folder, ORDER[: ORDER.index(folder)])}
    for path in (PACKAGE / folder).rglob("*.py"):
        above = set(imported(path)) - allowed
        assert not above, f"{path.relative_to(REPO)} imports {above}"


def test_the_own_modules_import_no_folder():
    for path in PACKAGE.glob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):  # the face, and the command line
            assert set(imported(path)) <= {""}, path


def test_files_and_functions_are_short():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MAX_FILE, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= MAX_FUNCTION, f"{path}: {node.name} has {length} lines"


def test_every_folder_says_what_it_is_for():
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_the_readme_shows_the_folders_in_their_order():
    tree = (REPO / "README.md").read_text(encoding="utf-8").split("## Where things are")[1]
    assert re.findall(r"^  (\w+)/ ", tree, re.MULTILINE) == ORDER


def test_commands_and_flags_are_those_of_the_list():
    found = commands_file.text()
    frozen = commands_file.PATH.read_text(encoding="utf-8")
    assert frozen == found, "run python -m tests.support.commands_file"


def test_public_names_are_there():
    for name in amplify_motion_tokenizer.__all__:
        assert getattr(amplify_motion_tokenizer, name) is not None
        assert name in dir(amplify_motion_tokenizer)
