"""The files, functions and pages that a page or a comment names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("aiofastsocket", "native", "tests", "benchmarks", "deploy", "docs", ".ci")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
FILES = [*ROOT.iterdir(), *(path for room in ROOMS for path in (ROOT / room).rglob("*"))]
SOURCES = [path for path in FILES if path.suffix in (".py", ".c", ".h", ".pxd", ".pyx", ".toml")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_the_map_names_what_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    names = {path.name for path in FILES}
    named = set(re.findall(r"[\w/-]+\.(?:c|h|py|md|pyx|pxd|opts|map)\b", text))
    assert len(named) > 40
    kernels = {name for name in named if name.startswith(("net/", "fs/"))}
    gone = {name for name in named - kernels if name.rpartition("/")[2] not in names}
    assert gone == {"core/ops_NAME.c"}
    code = "\n".join(path.read_text() for path in SOURCES)
    functions = set(re.findall(r"`(?:\w+\.)*((?:fs|table|shim|reports)_\w+|_[a-z]\w+)`", text))
    assert not {name for name in functions if not re.search(rf"\b{name}\b", code)}


def test_every_module_is_on_the_map() -> None:
    """Check the folders that the map shows file by file."""
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("## The map")[2].partition("## ")[0]
    words = set(re.findall(r"\w+", text))
    for folder in (
        "aiofastsocket",
        "aiofastsocket/server",
        "aiofastsocket/loop",
        "native/core",
        "native/python",
        "deploy",
    ):
        for path in (ROOT / folder).iterdir():
            if path.suffix in (".py", ".c", ".pyx") and not path.stem.startswith(("_", "ops_")):
                assert path.stem in words, f"{path.relative_to(ROOT)} is not on the map"


def test_the_map_of_a_folder_names_all_of_it() -> None:
    for folder in ("server", "server/http", "table", "stats"):
        text = (ROOT / "aiofastsocket" / folder / "__init__.py").read_text().partition('"""\n')[0]
        for path in (ROOT / "aiofastsocket" / folder).iterdir():
            if path.suffix == ".py" and path.stem != "__init__":
                assert re.search(rf"\b{path.stem}\b", text), f"{folder}/__init__ and {path.stem}"


def test_nothing_cites_a_page_that_is_not_here() -> None:
    pages = {path.name for path in FILES if path.suffix == ".md"}
    for path in [*SOURCES, *PAGES]:
        cited = set(re.findall(r"\b[A-Z]{3,}\.md\b", path.read_text()))
        assert cited <= pages | {"README.md"}, path
        if path != Path(__file__):
            assert not re.search(r"\bDESI" + r"GN\b", path.read_text()), path
