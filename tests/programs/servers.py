"""Configuration and start of the three servers of the tests."""

from collections.abc import Sequence
from pathlib import Path

from support.programs import Program, which

NGINX = """
user www-data;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 512; {events} }}
http {{
  access_log off;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port} {listen}; location / {{ return 200 "hello\\n"; }} }}
}}
"""

HAPROXY = """
global
  nbthread {threads}
  maxconn 2000
  {stats}
defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 10s
frontend f
  bind 127.0.0.1:{port} {bind}
  http-request return status 200 content-type text/plain string "hello"
"""

LIGHTTPD = """
server.document-root = "{folder}"
server.bind = "127.0.0.1"
server.port = {port}
server.max-worker = {workers}
server.username = "www-data"
server.errorlog = "{folder}/error.log"
index-file.names = ("index.html")
"""


def nginx(
    folder: Path,
    port: int,
    preloaded: bool,
    *,
    workers: int,
    events: str = "",
    listen: str = "",
    daemon: bool = False,
    settings: dict[str, str] | None = None,
    under: Sequence[str] = (),
) -> Program:
    conf = folder / "nginx.conf"
    conf.write_text(
        NGINX.format(folder=folder, port=port, workers=workers, events=events, listen=listen)
    )
    mode = "on" if daemon else "off"
    return Program(
        [*under, which("nginx"), "-p", folder, "-c", conf, "-g", f"daemon {mode};"],
        folder=folder,
        port=port,
        preloaded=preloaded,
        settings=settings,
        pid_file=folder / "nginx.pid" if daemon else None,
    )


def haproxy(
    folder: Path,
    port: int,
    preloaded: bool,
    *,
    threads: int,
    stats: str = "",
    bind: str = "",
    arguments: tuple[str, ...] = ("-db",),
) -> Program:
    conf = folder / "haproxy.cfg"
    conf.write_text(
        HAPROXY.format(port=port, threads=threads, stats=stats.format(folder=folder), bind=bind)
    )
    extra = [argument.format(folder=folder) for argument in arguments]
    return Program(
        [which("haproxy"), "-f", conf, *extra], folder=folder, port=port, preloaded=preloaded
    )


def lighttpd(folder: Path, port: int, preloaded: bool, *, workers: int) -> Program:
    conf = folder / "lighttpd.conf"
    conf.write_text(LIGHTTPD.format(folder=folder, port=port, workers=workers))
    (folder / "index.html").write_text("hello\n")
    # lighttpd opens its log as the user of its workers.
    (folder / "error.log").touch()
    (folder / "error.log").chmod(0o666)
    return Program(
        [which("lighttpd"), "-D", "-f", conf], folder=folder, port=port, preloaded=preloaded
    )
