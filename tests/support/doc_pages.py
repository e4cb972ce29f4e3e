"""The pages of docs/ that are made of the package.

python -m tests.support.doc_pages    # after a setting, a command, a flag or a public docstring has changed
"""

from pathlib import Path

from tests.support import api_page, commands_page, settings_page

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {"settings.md": settings_page.text, "commands.md": commands_page.text, "api.md": api_page.text}

if __name__ == "__main__":
    for name, text in PAGES.items():
        (DOCS / name).write_text(text(), encoding="utf-8")
