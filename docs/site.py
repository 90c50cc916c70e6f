"""Builds the site into build/site, links checked: `make docs`.

A page's place in the site is its place in the project, so that every link leads to the same page
here and there. What the site does not hold (a source file, a folder) is linked as text.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "build" / "pages"
TOP = ("CHANGELOG.md", "CONTRIBUTING.md", "DECISIONLOG.md", "README.md")
SHOWN = {".md", ".png", ".svg"}


def collect() -> None:
    """The project's pages and pictures, in `build/pages`."""
    shutil.rmtree(PAGES, ignore_errors=True)
    found = [ROOT / name for name in (*TOP, "sources/crmcom/README.md")]
    found += [path for path in (ROOT / "docs").rglob("*") if path.suffix in SHOWN]
    for path in found:
        target = PAGES / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(without_files(path.read_text(), path))
        else:
            shutil.copyfile(path, target)


def without_files(text: str, page: Path) -> str:
    """The page without links to what the site does not hold; a broken link stays, and is found."""

    def shown(match: re.Match[str]) -> str:
        label, target = match[1], match[2].partition("#")[0]
        path = page.parent / target
        held = path.suffix in SHOWN or not path.exists()
        return match[0] if target.startswith("https://") or held else label

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s#][^)\s]*)\)", shown, text)


if __name__ == "__main__":
    collect()
    config = ROOT / "docs" / "mkdocs.yml"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(config)]
    # The theme recommends its successor, on each build.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    sys.exit(subprocess.call(build, env=environment))  # noqa: S603 - our own words
