"""The options of `serve`: one table, which the command line, the environment, a file and the call
from Python are read by (sources.py), and whose defaults and checks those who use an option have
(config.py, http/config.py, tls.py). Names are uvicorn's where they mean the same.

A new option is a line here, and a field of the same name where it is used.
"""

from dataclasses import dataclass, is_dataclass
from typing import Any

from ..choices import BACKENDS, LOOPS, PINS, SLOTS_MAX, STEERINGS
from .kinds import Anything, Auto, Each, Field, Kind, Seconds, Switch, Text, Whole, Word

INTERFACES = ("auto", "asgi3", "wsgi", "protocol", "stream")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
LIFESPANS = ("auto", "on", "off")
# The only ones there are, under the names that uvicorn has for them.
HTTP = ("auto", "httptools")
WS = ("auto", "websockets", "websockets-sansio", "none")

INT_MAX = 2**31 - 1  # listen(2) and descriptors are ints

YES = Switch()
FLAG = Switch(flag=True)


@dataclass(frozen=True)
class Option:
    """name: in Python, and of the field that has it. default: None means what `unset` says.
    variable: of the environment, for those who do not give the option. late: it is read where the
    option is used, once the program is there, which may have set it. written: on the command line,
    where that is another name. short: there too, gunicorn's. start: it is about the start, and no
    part of the configuration. secret: its value is not shown. since: the release that brought
    it."""

    name: str
    kind: Kind
    group: str
    help: str
    default: Any = None
    unset: str = ""
    variable: str = ""
    late: bool = False
    written: str = ""
    short: str = ""
    start: bool = False
    secret: bool = False
    since: str = "0.1"

    @property
    def flag(self) -> str:
        """As on the command line."""
        return f"--{self.written or self.name.replace('_', '-')}"

    @property
    def holds(self) -> str:
        """The default, in words; empty if there is none."""
        value = self.default
        if value is None or value == () or self.kind == FLAG:
            return self.unset
        if isinstance(value, bool):
            return "yes" if value else "no"
        return f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def says(self) -> str:
        """The help text, with the default."""
        known = [text for text in (self.variable and f"${self.variable}", self.holds) if text]
        return f"{self.help} ({', '.join(known)})" if known else self.help


OPTIONS = (
    # -- configuration --
    Option(
        "config",
        Text("FILE"),
        "configuration",
        "read options that are not given from this TOML file, from [tool.aiofastsocket] if it is a "
        "pyproject.toml",
        unset="aiofastsocket.toml or pyproject.toml of the working directory, if there is one",
        short="-c",
        start=True,
        since="0.2",
    ),
    Option(
        "env_file",
        Text("FILE"),
        "configuration",
        "set variables of the environment that are not set, as lines NAME=VALUE of this file say",
        start=True,
        since="0.2",
    ),
    Option(
        "print_config",
        FLAG,
        "configuration",
        "print each option's value and where it is from, and end",
        False,
        start=True,
        since="0.2",
    ),
    Option(
        "check_config",
        FLAG,
        "configuration",
        "check all options, certificates and the program, which is imported, and end",
        False,
        start=True,
        since="0.2",
    ),
    # -- program --
    Option(
        "interface",
        Word(
            INTERFACES,
            (
                (
                    "asgi2",
                    "ASGI 2 is not served; asgiref's guarantee_single_callable makes ASGI 3 of it",
                ),
                ("asgi", "use asgi3"),
                ("asginl", "use asgi3, and --lifespan off"),
                ("rsgi", "RSGI is not served; name the ASGI or WSGI application"),
            ),
        ),
        "program",
        "kind of the program; auto: find out by looking at it",
        "auto",
    ),
    Option("factory", FLAG, "program", "the target is a function that returns the program", False),
    Option("app_dir", Text("DIR"), "program", "directory to import the program from", "."),
    Option(
        "preload",
        FLAG,
        "program",
        "import the program once, before the workers start, not in each of them",
        False,
    ),
    Option(
        "hooks",
        Text("MODULE"),
        "program",
        "call functions of this module by their names: on_starting(), on_reload(), and in workers "
        "post_fork(worker), worker_ready(worker), worker_exit(worker)",
        unset="none are called",
        since="0.2",
    ),
    Option("reload", FLAG, "program", "renew the workers when a Python file changes", False),
    Option(
        "reload_dirs",
        Each(Text("DIR")),
        "program",
        "directory whose Python files --reload watches; may be repeated",
        (),
        unset="--app-dir",
        written="reload-dir",
    ),
    Option(
        "reload_include",
        Each(Text("GLOB")),
        "program",
        "files that --reload watches beside *.py, by their names or paths, as '*.html'; may be "
        "repeated",
        (),
        since="0.2",
    ),
    Option(
        "reload_exclude",
        Each(Text("GLOB")),
        "program",
        "files and folders that --reload does not watch, by their names or paths; may be repeated",
        (),
        since="0.2",
    ),
    Option(
        "reload_delay",
        Seconds(),
        "program",
        "changes that follow each other faster than this are one to --reload",
        0.05,
        since="0.2",
    ),
    Option(
        "lifespan",
        Word(LIFESPANS),
        "program",
        "tell an ASGI application of its start and end; auto: if it knows the protocol",
        "auto",
    ),
    # -- addresses --
    Option(
        "bind",
        Each(Text("ADDRESS")),
        "addresses",
        "serve this address: host:port, [ipv6]:port, :port for all of IPv4, unix:path or fd://N; "
        "port 0 chooses one; may be repeated",
        (),
        unset="0.0.0.0:$PORT if there is $PORT, else 127.0.0.1:8000",
        short="-b",
    ),
    Option("host", Text("HOST"), "addresses", "as --bind HOST:PORT", unset="127.0.0.1"),
    Option("port", Whole(0, 65535), "addresses", "as --bind HOST:PORT", unset="8000"),
    Option("uds", Text("PATH"), "addresses", "as --bind unix:PATH"),
    Option(
        "fd", Whole(0, INT_MAX), "addresses", "as --bind fd://N, a socket of the starting program's"
    ),
    Option(
        "backlog",
        Whole(1, INT_MAX),
        "addresses",
        "connections that may wait at each listener to be accepted",
        2048,
    ),
    Option(
        "defer_accept",
        YES,
        "addresses",
        "accept a connection only when its first bytes are there: for protocols in which the "
        "client speaks first",
        unset="yes for ASGI, unless --forwarded-allow-ips tells of proxies, which connect ahead",
    ),
    # -- TLS --
    Option(
        "ssl_certfile",
        Each(Text("FILE")),
        "TLS",
        "serve TLS, with the certificate chain in this file; may be repeated: a client gets the "
        "one for the host that it asks for, else the first",
        (),
    ),
    Option(
        "ssl_keyfile",
        Each(Text("FILE")),
        "TLS",
        "the certificate's key; repeated as --ssl-certfile is, in the same order",
        (),
        unset="in the same file",
    ),
    Option(
        "ssl_keyfile_password",
        Text("TEXT"),
        "TLS",
        "password of the key, if it is encrypted",
        secret=True,
    ),
    Option(
        "ssl_cert_reqs",
        Whole(0),
        "TLS",
        "clients' certificates: 0 are not asked for, 1 are optional, 2 are required",
        0,
    ),
    Option(
        "ssl_ca_certs",
        Text("FILE"),
        "TLS",
        "certificates of the authorities that may have signed clients' certificates",
    ),
    Option(
        "ssl_ciphers",
        Text("LIST"),
        "TLS",
        "ciphers of TLS 1.2, as ciphers(1) writes them",
        unset="those with forward secrecy and authenticated encryption",
    ),
    Option(
        "ssl_min_version",
        Word(("1.2", "1.3")),
        "TLS",
        "oldest version of TLS that is spoken",
        "1.2",
        since="0.2",
    ),
    Option(
        "ssl_alpn",
        Text("LIST", commas=True),
        "TLS",
        "protocols that are offered to clients (ALPN), with commas between; empty: none",
        "http/1.1",
        since="0.2",
    ),
    Option(
        "ssl_reload",
        Seconds(),
        "TLS",
        "look so often whether the certificates' files have changed, and renew the workers then",
        unset="at HUP only",
        since="0.2",
    ),
    Option(
        "redirect_http",
        Each(Text("ADDRESS")),
        "TLS",
        "speak plain HTTP at this address, and send clients to the same path over TLS; written as "
        "for --bind; may be repeated",
        (),
        since="0.2",
    ),
    Option(
        "redirect_http_except",
        Each(Text("PREFIX")),
        "TLS",
        "paths that begin so are the application's there, as /.well-known/acme-challenge/; may be "
        "repeated",
        (),
        since="0.2",
    ),
    Option(
        "hsts",
        Text("MAX-AGE"),
        "TLS",
        "send Strict-Transport-Security over TLS: browsers use nothing else for so many seconds; "
        "'; includeSubDomains' and '; preload' may follow",
        unset="it is not sent",
        since="0.2",
    ),
    # -- workers --
    Option(
        "workers",
        Auto(Whole(1, SLOTS_MAX)),
        "workers",
        "number of worker processes; auto: one for each core, as far as the control group allows",
        unset="auto",
        variable="WEB_CONCURRENCY",
        short="-w",
    ),
    Option(
        "slots",
        Whole(1, SLOTS_MAX),
        "workers",
        "local listeners of each address: the most workers that TTIN reaches",
        unset="twice the workers",
    ),
    Option(
        "backend",
        Word(BACKENDS),
        "workers",
        "way to the kernel; auto: the device if its module is loaded, else reuseport",
        unset="auto",
        variable="AIOFASTSOCKET_BACKEND",
    ),
    Option(
        "steer",
        Word(STEERINGS),
        "workers",
        "destination of new connections: cpu, the worker of the core that received them; spread, "
        "all workers evenly; auto: what fits the network cards",
        "auto",
    ),
    Option(
        "pin",
        Word(PINS),
        "workers",
        "bind each worker to its slot's core; auto: while steering is cpu",
        "auto",
    ),
    Option(
        "loop",
        Word(("auto", *LOOPS), (("none", "use asyncio"),)),
        "workers",
        "event loop of the workers; auto: uvloop",
        "auto",
    ),
    # -- HTTP --
    Option(
        "http",
        Word(HTTP, (("h11", "requests are read by the server's own parser; leave --http out"),)),
        "HTTP",
        "HTTP parser, for those who come from uvicorn: there is one, as strict as httptools",
        "auto",
    ),
    Option(
        "ws",
        Word(WS, (("wsproto", "use websockets, or none"),)),
        "HTTP",
        "WebSocket library, for those who come from uvicorn: there is one; none: a request for a "
        "WebSocket is served as if it asked for nothing but HTTP",
        "auto",
    ),
    Option(
        "wsgi_threads",
        Whole(least=0, most=1000),
        "HTTP",
        "threads of each worker that call a WSGI application: as many requests as may wait for a "
        "database at once; 0: its event loop's own does, one request at a time, and other workers "
        "take what waits meanwhile",
        10,
        since="0.2",
    ),
    Option(
        "wsgi_underscores",
        YES,
        "HTTP",
        "hand header fields with an underscore in their name to a WSGI application, where X_Name "
        "cannot be told from X-Name",
        False,
        since="0.2",
    ),
    Option(
        "root_path",
        Text("PATH"),
        "HTTP",
        "path at which a proxy has mounted the application",
        "",
    ),
    Option(
        "proxy_headers",
        YES,
        "HTTP",
        "believe X-Forwarded-For and X-Forwarded-Proto of trusted proxies",
        True,
    ),
    Option(
        "forwarded_allow_ips",
        Text("LIST", commas=True),
        "HTTP",
        "trusted proxies: addresses and networks with commas between, or * for all",
        unset="127.0.0.1",
        variable="FORWARDED_ALLOW_IPS",
        late=True,
    ),
    Option(
        "proxy_protocol",
        FLAG,
        "HTTP",
        "trusted proxies (--forwarded-allow-ips) say ahead of each connection whose it is, by the "
        "PROXY protocol, version 1 or 2; a connection of theirs without that is cut off",
        False,
        since="0.2",
    ),
    Option("access_log", YES, "HTTP", "write a line for each response", True),
    Option(
        "access_log_format",
        Text("FORMAT"),
        "HTTP",
        "what that line says, in gunicorn's words, as %(h)s, %(r)s, %(s)s, %(D)s, "
        "%({x-request-id}i)s, or %(queue)s for the seconds that it waited in the kernel; or json",
        unset="the Common Log Format",
        since="0.2",
    ),
    Option(
        "access_log_file",
        Text("FILE"),
        "HTTP",
        "write these lines to this file, which USR1 opens again",
        unset="standard output",
        since="0.2",
    ),
    Option(
        "headers",
        Each(Field()),
        "HTTP",
        "header field to send with each response; may be repeated",
        (),
        written="header",
    ),
    Option("server_header", YES, "HTTP", "send the header field Server", True),
    Option("date_header", YES, "HTTP", "send the header field Date", True),
    Option(
        "ws_max_size",
        Whole(metavar="BYTES"),
        "HTTP",
        "largest WebSocket message that is taken from a client",
        16 * 1024 * 1024,
    ),
    Option(
        "ws_ping_interval",
        Seconds(),
        "HTTP",
        "send a ping to a WebSocket client that was silent for so long",
        20.0,
    ),
    Option(
        "ws_ping_timeout",
        Seconds(),
        "HTTP",
        "close a WebSocket whose client has not answered a ping for so long",
        20.0,
    ),
    Option(
        "ws_per_message_deflate",
        YES,
        "HTTP",
        "compress WebSocket messages, if the client can",
        True,
    ),
    Option(
        "ws_deflate_window",
        Whole(9, 15, metavar="BITS"),
        "HTTP",
        "window of that compression, as a power of two: a message that is being compressed takes "
        "up to eight times as many bytes; less compresses less",
        12,
        since="0.2",
    ),
    Option(
        "ws_deflate_level",
        Whole(1, 9, metavar="LEVEL"),
        "HTTP",
        "effort of that compression: 1 is the fastest, 9 the smallest",
        3,
        since="0.2",
    ),
    Option(
        "queue_time",
        FLAG,
        "HTTP",
        "tell applications how long a connection's first request waited in the kernel before the "
        "server took it: aiofastsocket.queue_time, in the scope's extensions or WSGI's environ",
        False,
        since="0.2",
    ),
    Option(
        "health_path",
        Text("PATH"),
        "HTTP",
        "answer requests for this path without the application: 200, and 503 once the service "
        "stops; they are not logged",
        unset="there is none",
        since="0.2",
    ),
    # -- limits --
    Option(
        "limit_concurrency",
        Whole(),
        "limits",
        "connections, or requests under way, of one worker: more are answered 503",
        unset="no limit",
    ),
    Option(
        "shed_after",
        Seconds(),
        "limits",
        "a connection's first request that waited longer than this in the kernel is answered 503",
        unset="no limit",
        since="0.2",
    ),
    Option(
        "limit_max_requests",
        Whole(),
        "limits",
        "requests after which a worker is replaced by a new one",
        unset="no limit",
    ),
    Option(
        "limit_max_requests_jitter",
        Whole(least=0),
        "limits",
        "each worker answers up to so many requests more than --limit-max-requests, by chance, so "
        "that they are not all replaced at once",
        0,
        since="0.2",
    ),
    Option(
        "limit_worker_rss",
        Whole(metavar="BYTES"),
        "limits",
        "resident memory above which a worker is replaced by a new one",
        unset="no limit",
        since="0.2",
    ),
    Option(
        "limit_worker_lifetime",
        Seconds(),
        "limits",
        "time after which a worker is replaced by a new one, one worker after the other",
        unset="no limit",
        since="0.2",
    ),
    Option(
        "limit_request_line",
        Whole(metavar="BYTES"),
        "limits",
        "longest target of a request: a longer one is answered 414",
        8192,
    ),
    Option(
        "limit_request_fields",
        Whole(),
        "limits",
        "header fields of a request: more are answered 431",
        100,
    ),
    Option(
        "limit_request_head",
        Whole(metavar="BYTES"),
        "limits",
        "size of all header fields of a request: more is answered 431",
        65536,
    ),
    Option(
        "timeout_tls_handshake",
        Seconds(),
        "limits",
        "time for a client to shake hands over TLS: else it is cut off",
        10.0,
        since="0.2",
    ),
    Option(
        "timeout_keep_alive",
        Seconds(),
        "limits",
        "close a connection that has been idle for so long",
        5.0,
    ),
    Option(
        "timeout_request_head",
        Seconds(),
        "limits",
        "time for a client to send the head of a request: else it is answered 408",
        30.0,
    ),
    Option(
        "timeout_request_body",
        Seconds(),
        "limits",
        "time in which more of a request's body has to come: else it is answered 408",
        60.0,
    ),
    # -- service --
    Option(
        "drain_delay",
        Seconds(zero=True),
        "service",
        "at TERM, serve on for so long before the service stops, while --health-path is answered "
        "503: load balancers send new requests elsewhere meanwhile",
        0.0,
        since="0.2",
    ),
    Option(
        "timeout_graceful_shutdown",
        Seconds(zero=True),
        "service",
        "time that open connections get to end by themselves after TERM or HUP",
        30.0,
    ),
    Option(
        "timeout_disconnect",
        Seconds(zero=True),
        "limits",
        "time that an application gets to end a request once it was told that the client is gone, "
        "because the service stops: then its task is cancelled",
        3.0,
        since="0.2",
    ),
    Option(
        "timeout_lifespan_startup",
        Seconds(),
        "service",
        "time that an ASGI application gets to start, after which the worker has failed",
        unset="no limit",
        since="0.2",
    ),
    Option(
        "timeout_lifespan_shutdown",
        Seconds(zero=True),
        "service",
        "time that an ASGI application gets to end, once its last connection has",
        10.0,
        since="0.2",
    ),
    Option(
        "timeout_worker",
        Seconds(),
        "service",
        "replace a worker that a handler has held up for so long: its event loop, or every thread "
        "of a WSGI application's; the log tells first what it was doing; 30 is a good value",
        unset="never",
        since="0.2",
    ),
    Option("user", Text("USER"), "service", "run the workers as this user, after binding"),
    Option("group", Text("GROUP"), "service", "run the workers as this group, after binding"),
    Option("pid_file", Text("FILE"), "service", "write the supervisor's process id to this file"),
    Option(
        "metrics",
        Text("ADDRESS"),
        "service",
        "tell Prometheus how the service does, at this address under /metrics: host:port, "
        "[ipv6]:port or unix:path; a port or :port is one of the loopback interface here",
        unset="it does not",
        since="0.2",
    ),
    Option(
        "log_level",
        Word(LOG_LEVELS, (("trace", "use debug"),)),
        "service",
        "least important lines of the log",
        "info",
    ),
    Option(
        "log_file",
        Text("FILE"),
        "service",
        "write the server's own lines to this file, which USR1 opens again",
        unset="standard error",
        since="0.2",
    ),
    Option(
        "log_format",
        Word(("text", "json")),
        "service",
        "what the server's own lines look like",
        "text",
        since="0.2",
    ),
    Option(
        "log_config",
        Anything("FILE"),
        "service",
        "configuration of Python's logging, .json or .ini, for all lines",
        unset="lines go to standard error, the access log to standard output",
    ),
)

BY_NAME = {option.name: option for option in OPTIONS}


def default(name: str) -> Any:
    """What holds if the option is not given: for the field that has it."""
    return BY_NAME[name].default


def check(config: Any) -> None:
    """Raise UsageError if a field of a config is not what its option allows; None is what it says
    if it is not given."""
    for name, value in vars(config).items():
        option = BY_NAME.get(name)
        if option is not None and value is not None and not is_dataclass(value):
            option.kind.convert(option.flag, value)
