"""Messages of an application, good and bad, and the responses that its client gets.

The responses are the same on uvicorn, unless noted.
"""

from pathlib import Path
from typing import Any

import pytest
from support.by_hand import Client, ask, get
from support.client import receive_all
from support.over_tls import not_over_tls
from support.service import until

OURS = ["ours-uvloop", "ours-asyncio"]


def test_a_body_without_length_is_chunked(server: Any) -> None:
    answer = ask(server, get("/parts"))
    assert answer.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in answer.headers
    assert answer.body == b"one,two,three"


def test_a_whole_body_has_its_length(server: Any, ours: bool) -> None:
    answer = ask(server, get("/hello"))
    if ours:  # uvicorn sends a chunk
        assert answer.headers["content-length"] == "5"
    assert answer.body == b"hello"


def test_head_is_get_without_the_body(server: Any) -> None:
    with Client(server.address) as client:
        for path in ("/hello", "/parts", "/megabytes?1"):
            client.send(get(path, method="HEAD"))
            assert client.answer(to="HEAD").status == 200
        client.send(get("/hello"))
        assert client.answer().body == b"hello"


@pytest.mark.parametrize("status", [200, 204, 301, 304, 404, 418, 503, 599])
def test_statuses(server: Any, status: int) -> None:
    with Client(server.address) as client:
        client.send(get(f"/status?{status}"))
        answer = client.answer()
        assert answer.status == status
        if status in (204, 304):
            assert "transfer-encoding" not in answer.headers
        client.send(get("/hello"))
        assert client.answer().body == b"hello"


@pytest.mark.parametrize(
    "path", ["/raises", "/returns", "/body-first", "/start-twice", "/cancelled"]
)
def test_exceptions_become_500(server: Any, ours: bool, path: str) -> None:
    if path == "/start-twice" and not ours:
        pytest.skip("uvicorn has sent the head by then")
    assert ask(server, get(path)).status == 500


def test_an_exception_in_a_body_ends_it_unfinished(server: Any) -> None:
    with Client(server.address) as client:
        client.send(get("/raises-late"))
        assert b"0\r\n\r\n" not in client.rest()


@not_over_tls("a client of TLS sees it by the end that is not said, whatever TCP tells")
def test_a_part_is_never_taken_for_the_whole(server: Any, ours: bool) -> None:
    """Without chunks or a length, the end of the connection ends the body. A reset does not."""
    with Client(server.address) as client:
        client.send(b"GET /raises-late HTTP/1.0\r\n\r\n")
        if ours:
            with pytest.raises(ConnectionResetError):
                receive_all(client.sock)
        else:  # uvicorn sends chunks in HTTP/1.0
            assert receive_all(client.sock).endswith(b"6\r\na part\r\n")


@not_over_tls("the reset may come before the request is read")
@pytest.mark.parametrize("server", OURS, indirect=True)
def test_an_error_that_is_its_own_cause(server: Any) -> None:
    with Client(server.address) as client:
        client.send(get("/circle"))
        client.reset()
    until(lambda: "round and round" in server.log(), "the error is logged")
    assert ask(server, get("/hello")).body == b"hello"


@pytest.mark.parametrize("path", ["/too-short", "/too-long"])
def test_lengths_are_kept(server: Any, ours: bool, path: str) -> None:
    with Client(server.address) as client:
        client.send(get(path))
        if ours:  # we have sent nothing yet, uvicorn has sent the head
            assert client.answer().status == 500
        else:
            with pytest.raises(EOFError):
                client.answer()


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\nb", b"a\rb", b"a\0b", b"\r\n\r\n<html>"])
def test_no_response_is_split(server: Any, value: bytes) -> None:
    with Client(server.address) as client:
        client.send(get(f"/splits?{value.hex()}"))
        got = client.rest() if not isinstance(value, str) else b""
    assert b"x: y" not in got
    assert b"<html>" not in got
    assert got == b"" or got.startswith(b"HTTP/1.1 500 ")


def test_files_are_sent_by_path(server: Any, ours: bool, tmp_path: Path) -> None:
    if not ours:
        pytest.skip("uvicorn has no http.response.pathsend")
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 5000)
    with Client(server.address) as client:
        client.send(get(f"/file?{path}", method="HEAD"))
        assert client.answer(to="HEAD").headers["content-length"] == str(256 * 5000)
        client.send(get(f"/file?{path}") + get("/hello"))
        assert client.answer().body == path.read_bytes()
        assert client.answer().body == b"hello"


def test_a_file_that_has_grown(server: Any, ours: bool, tmp_path: Path) -> None:
    if not ours:
        pytest.skip("uvicorn has no http.response.pathsend")
    (tmp_path / "file").write_bytes(b"12345678")
    with Client(server.address) as client:
        client.send(get(f"/grown?{tmp_path / 'file'}") + get("/hello"))
        assert client.answer().body == b"1234"
        assert client.answer().body == b"hello"


def test_a_body_that_is_not_bytes(server: Any, ours: bool) -> None:
    if not ours:
        pytest.skip("uvicorn has sent the head")
    assert ask(server, get("/text")).status == 500


def test_a_body_that_is_nearly_bytes(server: Any) -> None:
    assert ask(server, get("/buffers")).body == b"buffers"


def test_head_does_not_guess_the_length(server: Any) -> None:
    with Client(server.address) as client:
        client.send(get("/no-body", method="HEAD") + get("/no-body"))
        assert client.answer(to="HEAD").headers.get("content-length", "5") == "5"
        assert client.answer().body == b"12345"
