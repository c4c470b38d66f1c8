"""The architecture: imports run one way, and each public name is exported once."""

import ast
from pathlib import Path

import aiofastsocket

PACKAGE = Path(__file__).parents[2] / "aiofastsocket"

# A module may import from ones further right only (DESIGN: cli -> serve -> ... -> errors).
ORDER = (
    "__main__",
    "cli",
    "stats",
    "diag",
    "preload",
    "serve",
    "policy",
    "loop",
    "acceptor",
    "transport",
    "selector",
    "table",
    "listeners",
    "peer",
    "channel",
    "_native",
    "errors",
)
# Within loop, likewise.
LOOP = ("factory", "on_uvloop", "on_asyncio", "listening", "serving", "shared")
# Within serve, likewise.
SERVE = (
    "arguments",
    "run",
    "reload",
    "supervisor",
    "summary",
    "child",
    "worker",
    "program",
    "demo",
    "config",
    "asgi",
    "target",
    "tls",
    "bind",
    "machine",
    "logs",
    "systemd",
)
# Within serve.asgi, likewise.
ASGI = (
    "connection",
    "incoming",
    "websocket",
    "request",
    "response",
    "service",
    "lifespan",
    "options",
    "proxies",
    "access",
    "deadlines",
    "scope",
    "wire",
)


def imports(path: Path) -> set[str]:
    """Dotted names, within the package, of what a module imports."""
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
    seen = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__" and parts[0] != "_native":
            continue
        seen.add(parts[0])
        for name in imports(path):
            target = name.split(".")
            inner = {"serve": SERVE, "loop": LOOP}.get(parts[0])
            if parts[:2] == ("serve", "asgi") and target[:2] == ["serve", "asgi"]:
                assert ASGI.index(parts[2]) < ASGI.index(target[2]), f"{path} imports {name}"
            elif target[0] == parts[0] and inner:
                assert inner.index(parts[1]) < inner.index(target[1]), f"{path} imports {name}"
            elif target[0] != parts[0]:
                assert ORDER.index(parts[0]) < ORDER.index(target[0]), f"{path} imports {name}"
    assert seen == set(ORDER)


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
