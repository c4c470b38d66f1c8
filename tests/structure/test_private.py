"""The private names of other packages that we rely on exist, and private.py lists them all.

A failure gives the name that is missing or changed, and its use. Find its replacement then, and
keep older releases working.
"""

import argparse
import ast
import asyncio
import atexit
import selectors
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from aiofastsocket import private

PACKAGE = Path(__file__).parents[2] / "aiofastsocket"


def a_loop(use: Callable[[asyncio.SelectorEventLoop], object]) -> None:
    loop = asyncio.SelectorEventLoop()
    try:
        use(loop)
    finally:
        loop.close()


def check(whose: str, owner: Any, names: dict[str, str]) -> None:
    gone = [
        f"{whose} has no {name}: {use}" for name, use in names.items() if not hasattr(owner, name)
    ]
    assert not gone, "\n".join(gone)


def test_names_of_sockets() -> None:
    with socket.socket() as sock:
        check("socket.socket", sock, private.SOCKET)
        private.keep_open(sock)
        sock.close()
        assert sock.fileno() >= 0, "socket.close() does not heed _io_refs any more"
        private.let_close(sock)
        assert sock.fileno() < 0, "_decref_socketios() does not close any more"


def test_names_of_atexit() -> None:
    check("atexit", atexit, private.ATEXIT)


@pytest.mark.skipif(
    not (3, 14) <= sys.version_info < (3, 16), reason="public before, and gone after"
)
def test_names_of_policies() -> None:
    check("asyncio.unix_events", asyncio.unix_events, private.POLICIES)


def test_names_of_selectors() -> None:
    with selectors.EpollSelector() as selector:
        check("selectors.EpollSelector", selector, private.SELECTOR)
    check("selectors", selectors, private.SELECTORS_MODULE)

    class Keeps(selectors._BaseSelectorImpl):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            raise NotImplementedError

    with Keeps() as keeps:
        assert keeps.register(0, selectors.EVENT_READ) == keeps.unregister(0)


def test_names_of_loops() -> None:
    a_loop(lambda loop: check("asyncio.SelectorEventLoop", loop, private.LOOP))


def test_names_of_servers() -> None:
    def use(loop: asyncio.SelectorEventLoop) -> None:
        create = loop.create_server(asyncio.Protocol, "127.0.0.1", 0, start_serving=False)
        server = loop.run_until_complete(create)
        check("asyncio.Server", server, private.SERVER)
        server.close()

    a_loop(use)


def test_names_of_transports() -> None:
    """asyncio's own transport, which ours replaces, has the names that asyncio uses."""

    def use(loop: asyncio.SelectorEventLoop) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            create = loop.create_connection(asyncio.Protocol, sock=ours)
            transport, _ = loop.run_until_complete(create)
            check("asyncio's socket transport", transport, private.TRANSPORT)
            transport.abort()
            loop.run_until_complete(asyncio.sleep(0))

    a_loop(use)


def test_names_of_streams() -> None:
    def use(loop: asyncio.SelectorEventLoop) -> None:
        reader = asyncio.StreamReader(loop=loop)
        check("asyncio.StreamReader", reader, private.STREAM_READER)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        check("asyncio.StreamReaderProtocol", protocol, private.STREAM_PROTOCOL)

    a_loop(use)


def test_names_of_ssl() -> None:
    check("_ssl", ssl._ssl, private.SSL_MODULE)  # type: ignore[attr-defined]


def test_names_of_uvloop() -> None:
    loop = uvloop.new_event_loop()
    try:
        check("uvloop.Loop", loop, private.UVLOOP)
    finally:
        loop.close()
    check("uvloop.loop", uvloop.loop, private.UVLOOP_MODULE)


def test_argparse() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    check("argparse", argparse, private.ARGPARSE)
    check("argparse.ArgumentParser", parser, private.PARSER)
    check("its subparsers", commands, private.SUBPARSERS)


def named(path: Path) -> tuple[set[str], set[str]]:
    """Private names that a module uses of any object, and those that it makes itself."""
    used, made = set[str](), set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            (made if isinstance(node.ctx, ast.Store) else used).add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.Assign):
            made.update(t.id for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            made.add(node.target.id)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            used.update(alias.name for alias in node.names)
    private_ones = [
        {n for n in names if n.startswith("_") and n[1:2] != "_"} for names in (used, made)
    ]
    return private_ones[0], private_ones[1]


def test_all_are_listed() -> None:
    tables = [table for name, table in vars(private).items() if name.isupper()]
    listed = {name for table in tables for name in table}
    used, made = set[str](), set[str]()
    for path in PACKAGE.rglob("*.py"):
        if path.name != "private.py":
            module_used, module_made = named(path)
            used |= module_used
            made |= module_made
    unlisted = used - made - listed - {"_exit", "_ffi"}
    assert not unlisted, f"whose are these? list them in private.py: {sorted(unlisted)}"
    texts = "\n".join(
        path.read_text()
        for root, pattern in ((PACKAGE, "*.py"), (PACKAGE.parent / "native/python", "*.p*x*"))
        for path in root.rglob(pattern)
        if path.name != "private.py"
    )
    unused = {name for name in listed if name.startswith("_") and name not in texts}
    assert unused <= {"_io_refs", "_decref_socketios", "_test_decode_cert"}, (
        f"nobody needs {sorted(unused)} any more"
    )


@pytest.mark.parametrize("table", ["SOCKET", "LOOP", "SERVER"])
def test_a_missing_name_is_told_with_its_use(table: str) -> None:
    with pytest.raises(AssertionError, match=r"nobody has no _\w+: "):
        check("nobody", object(), getattr(private, table))
