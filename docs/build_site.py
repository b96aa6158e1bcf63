"""Build the documentation site from the Markdown of this repository: `python docs/build_site.py OUTPUT`.

The pages are staged in OUTPUT/source (nothing is written into the tree), their links are made to work there, and Sphinx
builds OUTPUT/html. A link that leads nowhere is an error. docs/README.md is the navigation.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INDEX = "docs/README.md"  # its sections and links are the navigation
HOME = "index.md"  # what README.md is called on the site
_FOLDER_INDEXES = ("docs/decisions/README.md", "docs/python/README.md")  # their folders' other pages are below them
API = Path("api/d2_cxr/index.rst")
_LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")  # no colon: an address of the web stays as it is
_OWN_CODE = ("d2_cxr/", "projects/LabelEfficiency/label_efficiency", "projects/PhantomCXR/phantom_cxr")


def main(argv: list[str] | None = None) -> int:
    """Stage, build, and name the page to open."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(f"{__doc__}\n")
        return 0 if arguments in (["-h"], ["--help"]) else 2
    output = Path(arguments[0]).resolve()
    source, html = output / "source", output / "html"
    for folder in (source, html, output / "doctrees"):  # autoapi writes nothing where it finds its old environment
        shutil.rmtree(folder, ignore_errors=True)
    stage(source)
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-j", "2"]
    places = ["-c", ROOT / "docs", "-d", output / "doctrees", source, html]
    done = subprocess.run([*command, *places], env={**os.environ, "D2_CXR_ROOT": str(ROOT)})
    if done.returncode == 0:
        sys.stderr.write(f"Documentation: {html / 'index.html'}\n")
    return done.returncode


def stage(source: Path) -> None:
    """Copy the pages and what they link to into `source`, with navigation."""
    linked: set[Path] = set()
    for path in pages():
        text = (ROOT / path).read_text(encoding="utf-8")
        linked |= {target for target in (resolve(path, link[1]) for link in _LINK.findall(text)) if target}
        _write(source / staged(Path(path)), rewrite(path, text) + _toctrees(path))
    for target in sorted(linked):
        _stage_target(source, target)


def pages() -> list[str]:
    """Return the Markdown files of the site, as paths from the root."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "projects").glob("*/README.md")]
    found.append(ROOT / "results" / "README.md")
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def navigation(index: str) -> dict[str, list[str]]:
    """Return {section: links} of an index page; only list items that begin with a link count."""
    sections: dict[str, list[str]] = {}
    for line in index.splitlines():
        if line.startswith("## "):
            sections[line[3:].strip()] = []
        found = re.match(r"- \[[^]]+\]\(([^)]+)\)", line)
        if found and sections:
            sections[list(sections)[-1]].append(found[1])
    return sections


def resolve(page: str, link: str) -> Path | None:
    """Return what a relative link of a page leads to, as a path from the root; None if there is no such file."""
    target = (ROOT / page).parent / link
    inside = target.resolve().is_relative_to(ROOT) and target.exists()
    return target.resolve().relative_to(ROOT) if inside else None


def staged(target: Path) -> Path:
    """Return where a file or folder of the repository is on the site, from the site's root."""
    if target == Path("README.md"):
        return Path(HOME)
    if not (ROOT / target).is_dir():
        return target
    room = target.as_posix()
    return Path("api", target, "index.rst") if room.startswith(_OWN_CODE) else Path("folders", f"{room}.md")


def rewrite(page: str, text: str) -> str:
    """Return a page's text with its links changed to where the site has their targets."""
    here = staged(Path(page)).parent

    def change(found: re.Match) -> str:
        target = resolve(page, found[2])
        if target is None:
            return found[0]  # Sphinx names it, and fails
        return f"{found[1]}{os.path.relpath(staged(target), here)}{found[3]}"

    return _LINK.sub(change, text)


def _toctrees(page: str) -> str:
    """Return the hidden tables of contents that make a page a knot of the navigation."""
    if page == "README.md":
        sections = navigation((ROOT / INDEX).read_text(encoding="utf-8"))
        found = {name: [staged(t) for link in links if (t := resolve(INDEX, link))] for name, links in sections.items()}
        found["Reference"] += [API]
        found["Explanation"] += [Path("CONTRIBUTING.md")]
        found["Start"] = [Path(INDEX), *(path for path in found["Start"] if path != Path(HOME))]
        return "".join(_toctree(paths, name) for name, paths in found.items())
    if page in _FOLDER_INDEXES:
        folder = page.removesuffix("README.md")
        return _toctree([Path(path) for path in pages() if path.startswith(folder) and path != page])
    return ""


def _toctree(paths: list[Path], caption: str = "") -> str:
    places = ["/" + path.with_suffix("").as_posix() for path in paths]
    entries = "\n".join(
        f"API reference <{place}>" if path == API else place for path, place in zip(paths, places, strict=True)
    )
    title = f":caption: {caption}\n" if caption else ""
    return f"\n\n```{{toctree}}\n:hidden:\n{title}\n{entries}\n```\n"


def _stage_target(source: Path, target: Path) -> None:
    """Copy a linked file that is no page; write a page for a linked folder."""
    place = source / staged(target)
    if place.exists() or place.suffix == ".rst":  # a page, or made from docstrings
        return
    if (ROOT / target).is_dir():
        return _write(place, _listing(target))
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / target, place)


def _listing(folder: Path) -> str:
    """Return a page on a folder: its files, with the first sentence of each module's docstring."""
    lines = ["---", "orphan: true", "---", "", f"# {folder.as_posix()}/", ""]
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines.append(f"- `{path.relative_to(ROOT).as_posix()}`: {text.splitlines()[0] if text else ''}")
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
