"""The servers that the preload library is measured on: configurations as data.

Each is started in the foreground in an empty directory, answers `GET /` with a few bytes and closes
the connection. `plain`, `shim` and `reuseport` differ in one thing only.
"""

from dataclasses import dataclass, field

NGINX = """
worker_processes {workers};
pid {dir}/pid;
error_log {dir}/error.log;
daemon off;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;
  uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;
  server {{ listen 127.0.0.1:{port} {listen}; location / {{ return 200 "hello\\n"; }} }}
}}
"""

HAPROXY = """
global
  nbthread {workers}
  maxconn 4000
  {listen}
defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 10s
frontend f
  bind 127.0.0.1:{port} {bind}
  http-request return status 200 content-type text/plain string hello
"""

LIGHTTPD = """
server.document-root = "{dir}"
server.port = {port}
server.bind = "127.0.0.1"
server.max-worker = {workers}
server.errorlog = "{dir}/error.log"
index-file.names = ("index.html")
{listen}
"""


@dataclass(frozen=True)
class Variant:
    """One way to run a server: settings of its configuration, and of the environment."""

    settings: dict[str, str] = field(default_factory=dict)
    shim: bool = False
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """A program, its configuration and the ways to run it; ratios are to `plain`."""

    command: tuple[str, ...]
    configuration: str
    defaults: dict[str, str]
    variants: dict[str, Variant]


_SPREAD = {"FSOCKET_STEER": "spread"}

SERVERS = {
    "nginx": Server(
        ("nginx", "-p", "{dir}", "-c", "{conf}"),
        NGINX,
        {"listen": ""},
        {
            "plain": Variant(),
            "shim": Variant(shim=True, environment=_SPREAD),
            "reuseport": Variant({"listen": "reuseport"}),
            "shim+defer": Variant(shim=True, environment=_SPREAD | {"FSOCKET_DEFER_ACCEPT": "1"}),
        },
    ),
    "haproxy": Server(
        ("haproxy", "-db", "-f", "{conf}"),
        HAPROXY,
        {"listen": "", "bind": ""},
        {
            "plain": Variant(),
            "shim": Variant(shim=True, environment=_SPREAD),
            "reuseport": Variant({"bind": "shards by-thread"}),
        },
    ),
    "lighttpd": Server(
        ("lighttpd", "-D", "-f", "{conf}"),
        LIGHTTPD,
        {"listen": ""},
        {
            "plain": Variant(),
            "shim": Variant(shim=True, environment=_SPREAD),
        },
    ),
}
