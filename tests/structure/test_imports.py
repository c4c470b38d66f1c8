"""The architecture: imports run one way, and each public name is exported once."""

import ast
from pathlib import Path

import aiofastsocket

PACKAGE = Path(__file__).parents[2] / "aiofastsocket"

# In each folder a module may only import from modules further right: ARCHITECTURE.md has the map.
ORDER = {
    "": (
        "__main__ cli completion stats preload server policy loop table channel address proc kernel"
        " elf choices private streams sockopt _native errors"
    ),
    "loop": (
        "factory on_uvloop on_asyncio listening forks server serving acceptor watching"
        " sock_accept transport selector"
    ),
    "server": (
        "arguments sources run elsewhere reload supervisor tables summary metrics late worn child"
        " worker hooks forked stuck program demo privileges config http pages target tls bind"
        " options certificates kinds looks machine logs lines systemd signals pidfile"
    ),
    "server.http": ("service secure lifespan config proxies access deflate failures files"),
    "server.metrics": "process answer collect",
    "stats": "command",
    "table": "open part pulse table registry passing view histogram",
}


def imports(path: Path) -> set[str]:
    """Dotted names of a module's imports from within the package."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    here = here[:-1] if here[-1] == "__init__" else here
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = here if path.name == "__init__.py" else here[:-1]
            base = package[: len(package) - node.level + 1]
            module = (*base, *node.module.split(".")) if node.module else base
            if node.module:
                found.add(".".join(module))
            else:
                found.update(".".join((*base, alias.name)) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.module.startswith("aiofastsocket"), path
    return found


def test_arrows_run_one_way() -> None:
    seen = {folder: set[str]() for folder in ORDER}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__" and parts[0] != "_native":
            continue
        for depth, part in enumerate(parts):
            if (folder := ".".join(parts[:depth])) in seen:
                seen[folder].add(part)
        for name in imports(path):
            target = tuple(name.split("."))
            depth = 0  # the first part in which they differ
            while parts[depth] == target[depth] and depth + 1 < min(len(parts), len(target)):
                depth += 1
            if parts[depth] != target[depth] and ".".join(parts[:depth]) in ORDER:
                order = ORDER[".".join(parts[:depth])].split()
                assert order.index(parts[depth]) < order.index(target[depth]), (path, name)
    assert seen == {folder: set(names.split()) for folder, names in ORDER.items()}


def test_only_native_imports_compiled_code() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "_native":
            text = path.read_text()
            assert "_ffi" not in text, path
            assert "_native._" not in text, path


def test_each_public_name_is_exported_once() -> None:
    assert sorted(set(aiofastsocket.__all__)) == sorted(aiofastsocket.__all__)
    for name in aiofastsocket.__all__:
        assert hasattr(aiofastsocket, name)
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    top = tree.body + [n for i in tree.body if isinstance(i, ast.If) for n in i.body]
    froms = [n for n in top if isinstance(n, ast.ImportFrom) and n.level]
    imported = [a.name for n in froms for a in n.names]
    assert sorted(imported) == sorted(aiofastsocket.__all__)


def test_extension_does_not_bring_the_preload_library() -> None:
    from aiofastsocket import _native

    assert b"libfsocket" not in Path(_native._ffi.__file__).read_bytes()


def test_one_place_asks_which_backend() -> None:
    asked = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                names = {side.id for side in sides if isinstance(side, ast.Name)}
                names |= {side.attr for side in sides if isinstance(side, ast.Attribute)}
                if "backend" in names and not isinstance(node.ops[0], ast.Is | ast.IsNot):
                    asked.add(path.relative_to(PACKAGE).as_posix())
    assert asked == {"table/open.py"}
