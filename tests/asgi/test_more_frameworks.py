"""More frameworks, asked by real clients for the things that all of them do.

ASGI: Litestar, Quart, Falcon, BlackSheep, Channels, python-socketio. WSGI: Flask, Bottle, Django.
Both: a WSGI application in an ASGI application.
"""

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from support import over_tls
from support.service import Service, until

pytestmark = pytest.mark.programs

Serve = Callable[..., Service]
PARTS = "".join(f"part {i}\n" for i in range(5))


def url(service: Service) -> str:
    return over_tls.url(service.address)


@pytest.mark.parametrize("framework", ["litestar", "quart", "falcon", "blacksheep", "channels"])
def test_asgi(serve: Serve, framework: str) -> None:
    service = serve(f"on_{framework}:app", "--workers", "1")
    with httpx.Client(base_url=url(service)) as client:
        for _ in range(3):
            assert client.get("/json").json() == {"hello": "wörld"}
            answer = client.post("/json", json={"a": [1, 2]})
            assert answer.is_success
            assert answer.json() == {"a": [1, 2]}
            assert client.get("/stream").text == PARTS
        assert client.get("/nowhere").status_code == 404
    with over_tls.websocket(url(service).replace("http", "ws") + "/echo") as socket:
        for text in ("one", "é", "x" * 70_000):
            socket.send(text)
            assert socket.recv(timeout=20) == text
    assert service.stop() == 0
    assert "exception in the application" not in service.log()


@pytest.mark.parametrize("framework", ["litestar", "quart", "channels"])
def test_a_stream_ends_when_its_client_leaves(serve: Serve, framework: str, tmp_path: Path) -> None:
    """These act on the version of the specification that the scope names: see ASGI in exchange.pyx.

    Starlette and FastAPI are in test_frameworks.py.
    """
    env = {"FILES": str(tmp_path)}
    service = serve(f"on_{framework}:app", "--workers", "1", env=env)
    with httpx.stream("GET", f"{url(service)}/silence") as response:
        parts = response.iter_text()  # kept: httpx leaves when its iterator is deleted
        assert next(parts) == "part 0\n"
        assert not (tmp_path / "left").exists()
    until((tmp_path / "left").exists, "the application is told")
    assert service.stop() == 0
    assert "Traceback" not in service.log()


def test_socketio(serve: Serve) -> None:
    import socketio

    service = serve("on_socketio:app", "--workers", "1")
    for transport in ("websocket", "polling"):

        async def talk(transport: str = transport) -> None:
            told = asyncio.get_running_loop().create_future()
            client = socketio.AsyncClient()
            client.on("told", told.set_result)
            await client.connect(url(service), transports=[transport])
            assert await client.call("ask", {"a": "é"}) == {"heard": {"a": "é"}}
            assert await asyncio.wait_for(told, 20) == {"a": "é"}
            await client.disconnect()

        asyncio.run(talk())
    assert service.stop() == 0
    assert "exception in the application" not in service.log()


@pytest.mark.parametrize("threads", ["10", "0"])
@pytest.mark.parametrize("framework", ["flask", "bottle", "django_wsgi"])
def test_wsgi(serve: Serve, framework: str, threads: str, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_000)
    (tmp_path / "data").write_bytes(data)
    env = {"FILES": str(tmp_path)}
    service = serve(f"on_{framework}:app", "--workers", "1", "--wsgi-threads", threads, env=env)
    with httpx.Client(base_url=url(service)) as client:
        for _ in range(3):
            assert client.get("/json").json() == {"hello": "wörld"}
            assert client.post("/json", json={"a": [1, 2]}).json() == {"a": [1, 2]}
            assert client.get("/stream").text == PARTS
            assert client.get("/static-file").content == data
            assert client.post("/raw", content=data).content == data
            # Chunked: the body has no length.
            assert client.post("/raw", content=iter([b"a", b"b" * 100_000])).content[:2] == b"ab"
        uploaded = client.post("/upload", files={"file": ("a.bin", os.urandom(500_000))})
        assert uploaded.json() == {"name": "a.bin", "size": 500_000}
        assert client.get("/raises").status_code == 500
        assert client.get("/nowhere").status_code == 404
    assert service.stop() == 0
    assert "exception in the application" not in service.log()


def test_a_wsgi_application_in_an_asgi_one(serve: Serve) -> None:
    service = serve("on_a2wsgi:app", "--workers", "1")
    with httpx.Client(base_url=url(service)) as client:
        assert client.get("/json").json() == {"hello": "wörld"}
        assert client.get("/old/json").json() == {"hello": "wörld"}
        assert client.post("/old/raw", content=b"x" * 100_000).content == b"x" * 100_000
        assert client.get("/old/stream").text == PARTS
    assert service.stop() == 0


def test_validated(serve: Serve, tmp_path: Path) -> None:
    """The standard library's checker for PEP 3333 accepts both the server and the application."""
    (tmp_path / "checked.py").write_text(
        "from wsgiref.validate import validator\nimport old\napp = validator(old.app)\n"
    )
    env = {"PYTHONPATH": str(Path(__file__).parents[1] / "support" / "app")}
    for threads in ("10", "0"):
        more = ("--workers", "1", "--wsgi-threads", threads)
        service = serve("checked:app", "--app-dir", str(tmp_path), *more, env=env)
        with httpx.Client(base_url=url(service)) as client:
            assert client.get("/hello").text == "hello"
            assert client.get("/parts").text == "one,two"
            assert client.post("/count", content=b"x" * 100_000).text == "100000"
            assert client.head("/hello").text == ""
        assert service.stop() == 0
        assert "AssertionError" not in service.log()


def test_asgiref_finds_nothing(serve: Serve, tmp_path: Path) -> None:
    """Scopes and messages of a real server have the keys that asgiref's types name."""
    (tmp_path / "typed.py").write_text(TYPED)
    told = tmp_path / "told"
    service = serve(
        "typed:app", "--app-dir", str(tmp_path), "--workers", "1", env={"TOLD": str(told)}
    )
    httpx.post(url(service), content=b"x")
    with over_tls.websocket(url(service).replace("http", "ws")) as socket:
        socket.send("x")
    until(lambda: told.exists() and told.read_text().count("fine") == 2, "both are checked")
    assert service.stop() == 0


TYPED = """
import os
from typing import get_type_hints
from asgiref import typing as types

def check(value, kind):
    hints = get_type_hints(kind)
    unknown = set(value) - set(hints)
    assert not unknown, unknown
    missing = {k for k in getattr(kind, "__required_keys__", hints)} - set(value)
    assert not missing - {"tls", "method", "extensions", "state", "reason"}, missing

async def app(scope, receive, send):
    if scope["type"] == "http":
        check(scope, types.HTTPScope)
        check(await receive(), types.HTTPRequestEvent)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})
        check(await receive(), types.HTTPDisconnectEvent)
    elif scope["type"] == "websocket":
        check(scope, types.WebSocketScope)
        check(await receive(), types.WebSocketConnectEvent)
        await send({"type": "websocket.accept"})
        message = await receive()
        check({"bytes": None, "text": None} | message, types.WebSocketReceiveEvent)
        check(await receive(), types.WebSocketDisconnectEvent)
    else:
        raise RuntimeError("no lifespan")
    with open(os.environ["TOLD"], "a") as told:
        told.write("fine\\n")
"""
