"""A WSGI application whose paths choose a behaviour, good or bad."""

import gzip
import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TEXT = [("Content-Type", "text/plain")]


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    name = environ["PATH_INFO"].split("/")[1].replace("-", "_")
    result: Iterable[bytes] = globals()[f"wsgi_{name}"](environ, start_response)
    return result


def wsgi_hello(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return [b"hello"]


def wsgi_environ(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    shown = {k: v for k, v in environ.items() if isinstance(v, str | int | float | bool | tuple)}
    return [json.dumps(shown).encode()]


def wsgi_thread(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return [threading.current_thread().name.encode()]


def wsgi_echo(environ: Any, start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", TEXT)
    return [body]


def wsgi_count(environ: Any, start_response: Any) -> Iterable[bytes]:
    size = 0
    while part := environ["wsgi.input"].read(1 << 16):
        size += len(part)
    start_response("200 OK", TEXT)
    return [b"%d" % size]


def wsgi_lines(environ: Any, start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"]
    first, second = body.readline(), body.readline(3)
    rest = body.readlines()
    again = [body.read(), body.readline(), body.readlines(), list(body)]
    start_response("200 OK", TEXT)
    return [repr([first, second, rest, again]).encode()]


def wsgi_iterates(environ: Any, start_response: Any) -> Iterable[bytes]:
    lines = list(environ["wsgi.input"])
    start_response("200 OK", TEXT)
    return [repr(lines).encode()]


def wsgi_parts(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"one,"
    yield b""
    yield b"two"


def wsgi_several(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return (b"one,", b"two")


def wsgi_waits(environ: Any, start_response: Any) -> Iterator[bytes]:
    """Sends the second part when a file named by the query exists."""
    start_response("200 OK", TEXT)
    yield b"first"
    while not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.01)
    yield b"second"


class Long:
    """Endless megabytes; a file named by the query shows that it was closed."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield bytes(1 << 20)

    def close(self) -> None:
        with Path(self._path).open("a") as told:
            told.write("closed\n")


def wsgi_long(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return Long(environ["QUERY_STRING"])


def wsgi_megabytes(environ: Any, start_response: Any) -> Iterable[bytes]:
    count = int(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", str(count << 20))])
    return (bytes(1 << 20) for _ in range(count))


def wsgi_file(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Sends the file named by the query, from its third byte on."""
    file = open(environ["QUERY_STRING"], "rb")  # noqa: SIM115
    file.seek(2)
    start_response("200 OK", TEXT)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file, 8192)
    return wrapped


def wsgi_no_file(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"no file"), 3)
    return wrapped


def wsgi_writes(environ: Any, start_response: Any) -> Iterable[bytes]:
    write = start_response("200 OK", TEXT)
    write(b"written,")
    return [b"returned"]


def wsgi_raises(environ: Any, start_response: Any) -> Iterable[bytes]:
    raise RuntimeError("not today")


def wsgi_raises_late(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"a part"
    raise RuntimeError("not any more")


def wsgi_another_head(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    try:
        raise RuntimeError("not today")
    except RuntimeError:
        start_response("503 Sorry", [("X-Own", "yes")], sys.exc_info())
    return [b"sorry"]


def wsgi_too_late(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"a part"
    try:
        raise KeyError("too late")
    except KeyError:
        start_response("503 Sorry", [], sys.exc_info())


def wsgi_start_twice(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return [b"no"]


def wsgi_no_start(environ: Any, start_response: Any) -> Iterable[bytes]:
    return [b"no"]


def wsgi_text(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", TEXT)
    return ["text"]


def wsgi_splits(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("X-Name", "a\r\nX-Injected: b")])
    return [b"split"]


def wsgi_status(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response(environ["QUERY_STRING"].replace("%20", " "), TEXT)
    return [b"x"]


def wsgi_slow(environ: Any, start_response: Any) -> Iterable[bytes]:
    time.sleep(0.3)
    start_response("200 OK", TEXT)
    return [b"slow"]


def wsgi_length(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Sends five bytes; the query is the Content-Length."""
    start_response("200 OK", [("Content-Length", environ["QUERY_STRING"])])
    return [b"hello"]


def wsgi_sleep(environ: Any, start_response: Any) -> Iterable[bytes]:
    time.sleep(float(environ["QUERY_STRING"]))
    start_response("200 OK", TEXT)
    return [b"slept"]


def wsgi_writes_then_file(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)(b"written,")
    file = open(environ["QUERY_STRING"], "rb")  # noqa: SIM115
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
    return wrapped


def wsgi_coded_file(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Sends the uncompressed data of a gzip file, not its bytes on the disk."""
    start_response("200 OK", TEXT)
    file = gzip.open(environ["QUERY_STRING"], "rb")  # noqa: SIM115
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
    return wrapped


def wsgi_too_much_then_reads(environ: Any, start_response: Any) -> Iterator[bytes]:
    """Ends its answer before it reads the body."""
    start_response("200 OK", [("Content-Length", "2")])
    yield b"ab"
    yield b"cd"
    environ["wsgi.input"].read()


def wsgi_two_wait(environ: Any, start_response: Any) -> Iterator[bytes]:
    """One thread reads the body while the other sends."""
    body = environ["wsgi.input"]
    reader = threading.Thread(target=lambda: body.read())
    reader.start()
    start_response("200 OK", TEXT)
    for _ in range(40):
        yield bytes(1 << 18)
    reader.join()
    yield b"joined"


def wsgi_pause(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Uses write(), which has sent its data when it returns."""
    write = start_response("200 OK", TEXT)
    write(b"first")
    while not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.01)
    return [b"second"]


def wsgi_large_parts(environ: Any, start_response: Any) -> Iterator[bytes]:
    """Sends three parts, each too large to be copied; the last one some microseconds later."""
    start_response("200 OK", TEXT)
    yield b"a" * 20000
    yield b"b" * 20000
    time.sleep(int(environ["QUERY_STRING"]) / 1e6)
    yield b"c" * 20000
