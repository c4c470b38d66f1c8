"""Make an environment for each peer, and start and end servers in it on their cores.

Virtual environments and C programs are kept in build/bench. A peer's environment is made again
when its packages or sources have changed, so that a figure always belongs to the current sources.
"""

import hashlib
import os
import shutil
import signal
import socket
import ssl
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from scenarios import BACKLOG, ENVIRONMENTS, OURS, Server

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "bench"

C_PROGRAMS = {
    "epoll_server": ("epoll_server.c",),
    "limit_server": ("limit_server.c",),
    "client": ("client.c", "pingpong.c", "short.c"),
}
C_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror")

# Debian keeps servers in folders that only root's PATH has.
SEARCH_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

# Below the ports that clients get, so that no client takes a server's port.
_ports = count(20000)


class CannotStart(Exception):
    """A server is not available here; the text is the reason."""


def _digest(files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file}\0".encode() + file.read_bytes())
    return total.hexdigest()


def _sources() -> list[Path]:
    """The files that the package is built from."""
    folders = (ROOT / "aiofastsocket", ROOT / "native")
    files = [f for folder in folders for f in folder.rglob("*") if f.is_file()]
    built = [f for f in files if not {"__pycache__", "tests"} & set(f.relative_to(ROOT).parts)]
    return [*built, ROOT / "pyproject.toml"]


def environment(name: str) -> Path:
    """Make a peer's virtual environment if needed. Returns its folder."""
    folder = BUILD / "envs" / name
    packages = ENVIRONMENTS[name]
    wanted = f"{sys.version} {packages}" + (_digest(_sources()) if OURS in packages else "")
    stamp = folder / "made-of"
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    print(f"making the environment of {name} ...", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    if packages:
        what = [str(ROOT) if package == OURS else package for package in packages]
        pip = (folder / "bin" / "pip", "--disable-pip-version-check", "install", "-qq")
        subprocess.run([*pip, *what], check=True)
    stamp.write_text(wanted)
    return folder


def compile_programs() -> Path:
    """Compile the C programs. Returns their folder."""
    folder = BUILD / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for program, sources in C_PROGRAMS.items():
        files = [HERE / "c" / source for source in sources]
        subprocess.run(["cc", *C_FLAGS, "-o", folder / program, *files, "-lm"], check=True)
    return folder


def make_certificate() -> None:
    """Make a certificate of ECDSA P-256, with its key in PKCS#8."""
    folder = BUILD / "tls"
    folder.mkdir(parents=True, exist_ok=True)
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
    command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)


def server_cores(workers: int) -> set[int]:
    """One core per worker, as far as the cores go; the last core is the client's."""
    return set(sorted(os.sched_getaffinity(0))[:-1][:workers])


def client_core() -> int:
    """The core on which no server runs."""
    return max(os.sched_getaffinity(0))


def _free_port() -> int:
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    server: Server
    pid: int
    port: int
    cores: set[int]


def _command(server: Server, folder: Path, port: int) -> list[str]:
    names = {
        "env": str(BUILD / "envs" / (server.environment or "")),
        "apps": str(HERE / "apps"),
        "bin": str(BUILD / "bin"),
        "dir": str(folder),
        "config": str(folder / "config"),
        "port": str(port),
        "backlog": str(BACKLOG),
        "workers": str(server.workers),
        "listen": server.listen,
        "cert": str(BUILD / "tls" / "cert.pem"),
        "key": str(BUILD / "tls" / "key.pem"),
    }
    if server.config:
        template = string.Template((HERE / "conf" / server.config).read_text())
        (folder / "config").write_text(template.substitute(names))
        (folder / "index.html").write_text("hello")
    command = [part.format(**names) for part in server.command]
    program = shutil.which(command[0], path=SEARCH_PATH)
    if program is None:
        raise CannotStart(f"{command[0]} is not installed")
    return [program, *command[1:]]


def _answers(port: int, *, tls: bool) -> bool:
    """Whether a request gets an answer; an echo counts as an answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        plain = socket.create_connection(("127.0.0.1", port), 5)
        with context.wrap_socket(plain) if tls else plain as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return client.recv(1) != b""
    except OSError:
        return False


@contextmanager
def running(server: Server) -> Iterator[Running]:
    """The server, from its first answer to its end. Raises CannotStart."""
    port = _free_port()
    cores = server_cores(server.workers)
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile() as errors:
        folder = Path(name)
        folder.chmod(0o755)  # some servers read it after they drop root
        try:
            process = subprocess.Popen(
                _command(server, folder, port),
                env=os.environ | {"PATH": SEARCH_PATH},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # the group that is ended below
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )
        except OSError as error:
            raise CannotStart(str(error)) from error
        try:
            end = time.monotonic() + 10
            while not _answers(port, tls=server.tls):
                if process.poll() is not None or time.monotonic() > end:
                    errors.seek(0)
                    said = errors.read().decode(errors="replace").strip() or "no answer"
                    raise CannotStart(said.splitlines()[-1])
                time.sleep(0.01)
            time.sleep(0.1)  # the other workers are ready soon after
            yield Running(server, process.pid, port, cores)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
