"""The reference has every public name, and each of them is described."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import aiofastsocket
from aiofastsocket.server.options import OPTIONS
from aiofastsocket.table.histogram import Histogram
from aiofastsocket.table.view import TableView

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CLASSES = [
    *(
        kind
        for name in aiofastsocket.__all__
        if inspect.isclass(kind := getattr(aiofastsocket, name))
    ),
    *(TableView, Histogram),  # returned by public functions
]


def test_each_public_name_is_on_the_page() -> None:
    page = (DOCS / "python.md").read_text()
    written = set(re.findall(r"auto(?:function|class|exception):: aiofastsocket\.(\S+)", page))
    assert written >= set(aiofastsocket.__all__)
    assert {name.rpartition(".")[2] for name in written} == {
        *aiofastsocket.__all__,
        *("TableView", "Histogram"),
    }


def described(kind: type) -> set[str]:
    """Names of a class's fields that a docstring follows."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id
        for field, after in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_method_and_field_is_described(kind: type) -> None:
    assert kind.__doc__
    for name, value in vars(kind).items():
        if not name.startswith("_") and (callable(value) or isinstance(value, property)):
            assert inspect.getdoc(getattr(kind, name)), f"{kind.__name__}.{name}"
    if dataclasses.is_dataclass(kind):
        assert {field.name for field in dataclasses.fields(kind)} == described(kind)


def test_each_group_of_options_is_on_the_page() -> None:
    page = (DOCS / "command-line.md").read_text()
    groups = re.findall(r"\{serve-options\} (\S+)", page)
    assert groups == list(dict.fromkeys(option.group for option in OPTIONS))


def test_each_variable_is_on_a_page() -> None:
    settings = (ROOT / "native" / "shim" / "settings.c").read_text()
    library = set(re.findall(r"\"(FSOCKET_[A-Z_]+)\"", settings)) - {"FSOCKET_TABLES"}
    assert len(library) > 5
    page = (DOCS / "exec.md").read_text()
    assert all(f"`{name}`" in page for name in library)
    ours = {option.variable for option in OPTIONS if option.variable} | {"PORT"}
    page = (DOCS / "configuration.md").read_text()
    assert all(f"`{name}`" in page for name in ours)


def test_each_page_is_on_the_map() -> None:
    index = (DOCS / "index.md").read_text()
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert pages == {line for line in index.splitlines() if line in pages}
    readme = (ROOT / "README.md").read_text()
    assert not {page for page in pages - {"compatibility"} if f"docs/{page}.md" not in readme}
    assert len(readme.splitlines()) <= 120
