"""The options of `serve`, in one table.

The command line, the environment, a file and the call from Python are read by this table
(sources.py). The modules that use an option take its default and its check from here (config.py,
http/config.py, tls.py). Options with the same meaning as in uvicorn have uvicorn's names.

A new option needs an entry here, and a field of the same name in the module that uses it.
"""

from dataclasses import dataclass, is_dataclass
from typing import Any

from ..choices import BACKENDS, LOOPS, PINS, SLOTS_MAX, STEERINGS
from .kinds import Anything, Auto, Each, Field, Kind, Seconds, Switch, Text, Whole, Word

INTERFACES = ("auto", "asgi3", "wsgi", "protocol", "stream")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
LIFESPANS = ("auto", "on", "off")
# There is one HTTP parser and one WebSocket library; these are uvicorn's names for them.
HTTP = ("auto", "httptools")
WS = ("auto", "websockets", "websockets-sansio", "none")

INT_MAX = 2**31 - 1  # listen(2) and descriptors are ints

YES = Switch()
FLAG = Switch(flag=True)


@dataclass(frozen=True)
class Option:
    """One option of `serve`.

    name: its name in Python, and the name of its field. default: None means the default that
    `unset` describes. variable: an environment variable that sets the option if it is not given.
    late: this variable is read when the option is used, because the imported program may set it.
    written: the name on the command line, if that differs. short: gunicorn's short name on the
    command line. start: the option concerns the start, and is not part of the configuration.
    secret: the value is not shown. since: the first release with the option."""

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
        """The option's name on the command line, with its dashes."""
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
        """The help text, followed by the variable and the default."""
        known = [text for text in (self.variable and f"${self.variable}", self.holds) if text]
        return f"{self.help} ({', '.join(known)})" if known else self.help


OPTIONS = (
    # -- configuration --
    Option(
        "config",
        Text("FILE"),
        "configuration",
        "TOML file with options, for those not given otherwise; in a pyproject.toml, the table "
        "[tool.aiofastsocket] is read",
        unset="aiofastsocket.toml or pyproject.toml in the working directory, if present",
        short="-c",
        start=True,
        since="0.2",
    ),
    Option(
        "env_file",
        Text("FILE"),
        "configuration",
        "file with lines NAME=VALUE that set environment variables; variables that are already "
        "set keep their values",
        start=True,
        since="0.2",
    ),
    Option(
        "print_config",
        FLAG,
        "configuration",
        "print the value and the source of each option, and exit",
        False,
        start=True,
        since="0.2",
    ),
    Option(
        "check_config",
        FLAG,
        "configuration",
        "check all options and certificates, import and check the program, and exit",
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
                    "ASGI 2 is not supported; asgiref's guarantee_single_callable converts it to "
                    "ASGI 3",
                ),
                ("asgi", "use asgi3"),
                ("asginl", "use asgi3, and --lifespan off"),
                ("rsgi", "RSGI is not supported; name the ASGI or WSGI application"),
            ),
        ),
        "program",
        "kind of the program; auto: detect it from the program",
        "auto",
    ),
    Option("factory", FLAG, "program", "the target is a function that returns the program", False),
    Option("app_dir", Text("DIR"), "program", "directory to import the program from", "."),
    Option(
        "preload",
        FLAG,
        "program",
        "import the program once, before the workers start, instead of in each worker",
        False,
    ),
    Option(
        "hooks",
        Text("MODULE"),
        "program",
        "module with functions to call: on_starting() and on_reload(), and in each worker "
        "post_fork(worker), worker_ready(worker) and worker_exit(worker)",
        unset="no hooks",
        since="0.2",
    ),
    Option("reload", FLAG, "program", "replace the workers when a Python file changes", False),
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
        "pattern of files that --reload watches in addition to *.py, for names or paths, such as "
        "'*.html'; may be repeated",
        (),
        since="0.2",
    ),
    Option(
        "reload_exclude",
        Each(Text("GLOB")),
        "program",
        "pattern of files and folders that --reload ignores, for names or paths; may be repeated",
        (),
        since="0.2",
    ),
    Option(
        "reload_delay",
        Seconds(),
        "program",
        "longest time between two changes that --reload treats as one change",
        0.05,
        since="0.2",
    ),
    Option(
        "lifespan",
        Word(LIFESPANS),
        "program",
        "run the lifespan protocol of an ASGI application; auto: if the application supports it",
        "auto",
    ),
    # -- addresses --
    Option(
        "bind",
        Each(Text("ADDRESS")),
        "addresses",
        "address to serve: host:port, [ipv6]:port, :port for all IPv4 addresses, unix:path or "
        "fd://N; port 0 chooses a free port; may be repeated",
        (),
        unset="0.0.0.0:$PORT if $PORT is set, else 127.0.0.1:8000",
        short="-b",
    ),
    Option(
        "host",
        Text("HOST"),
        "addresses",
        "host to serve; same as in --bind HOST:PORT",
        unset="127.0.0.1",
    ),
    Option(
        "port",
        Whole(0, 65535),
        "addresses",
        "port to serve; same as in --bind HOST:PORT",
        unset="8000",
    ),
    Option("uds", Text("PATH"), "addresses", "unix socket to serve; same as --bind unix:PATH"),
    Option(
        "fd",
        Whole(0, INT_MAX),
        "addresses",
        "descriptor of an inherited socket to serve; same as --bind fd://N",
    ),
    Option(
        "backlog",
        Whole(1, INT_MAX),
        "addresses",
        "most connections that may wait to be accepted at each listener",
        2048,
    ),
    Option(
        "defer_accept",
        YES,
        "addresses",
        "accept a connection only after its first bytes arrive; for protocols in which the client "
        "sends first",
        unset="yes for HTTP, unless --forwarded-allow-ips names proxies, which connect in advance",
    ),
    # -- TLS --
    Option(
        "ssl_certfile",
        Each(Text("FILE")),
        "TLS",
        "serve TLS with the certificate chain in this file; may be repeated: a client gets the "
        "certificate for the host that it requests, or else the first one",
        (),
    ),
    Option(
        "ssl_keyfile",
        Each(Text("FILE")),
        "TLS",
        "file with the private key for --ssl-certfile; may be repeated, in the same order",
        (),
        unset="the certificate file",
    ),
    Option(
        "ssl_keyfile_password",
        Text("TEXT"),
        "TLS",
        "password of the private key, if the key is encrypted",
        secret=True,
    ),
    Option(
        "ssl_cert_reqs",
        Whole(0),
        "TLS",
        "client certificates: 0 not requested, 1 optional, 2 required",
        0,
    ),
    Option(
        "ssl_ca_certs",
        Text("FILE"),
        "TLS",
        "file with certificates of the authorities that are trusted to sign client certificates",
    ),
    Option(
        "ssl_ciphers",
        Text("LIST"),
        "TLS",
        "ciphers for TLS 1.2, in the format of ciphers(1)",
        unset="ciphers with forward secrecy and authenticated encryption",
    ),
    Option(
        "ssl_min_version",
        Word(("1.2", "1.3")),
        "TLS",
        "oldest TLS version to accept",
        "1.2",
        since="0.2",
    ),
    Option(
        "ssl_alpn",
        Text("LIST", commas=True),
        "TLS",
        "protocols to offer to clients (ALPN), separated by commas; empty: none",
        "http/1.1",
        since="0.2",
    ),
    Option(
        "ssl_reload",
        Seconds(),
        "TLS",
        "interval of checks of the certificate files; if they have changed, the workers are "
        "replaced",
        unset="the files are read again on HUP only",
        since="0.2",
    ),
    Option(
        "redirect_http",
        Each(Text("ADDRESS")),
        "TLS",
        "serve plain HTTP at this address, and redirect clients to the same path over TLS; same "
        "forms as for --bind; may be repeated",
        (),
        since="0.2",
    ),
    Option(
        "redirect_http_except",
        Each(Text("PREFIX")),
        "TLS",
        "prefix of paths that --redirect-http passes to the application instead, such as "
        "/.well-known/acme-challenge/; may be repeated",
        (),
        since="0.2",
    ),
    Option(
        "hsts",
        Text("MAX-AGE"),
        "TLS",
        "send Strict-Transport-Security over TLS: browsers use only TLS for this number of "
        "seconds; '; includeSubDomains' and '; preload' may follow the number",
        unset="not sent",
        since="0.2",
    ),
    # -- workers --
    Option(
        "workers",
        Auto(Whole(1, SLOTS_MAX)),
        "workers",
        "number of worker processes; auto: one per core, limited by the control group",
        unset="auto",
        variable="WEB_CONCURRENCY",
        short="-w",
    ),
    Option(
        "slots",
        Whole(1, SLOTS_MAX),
        "workers",
        "local listeners per address; TTIN adds workers up to this number",
        unset="twice the workers",
    ),
    Option(
        "backend",
        Word(BACKENDS),
        "workers",
        "kernel interface; auto: the device if its module is loaded, else reuseport",
        unset="auto",
        variable="AIOFASTSOCKET_BACKEND",
    ),
    Option(
        "steer",
        Word(STEERINGS),
        "workers",
        "destination of new connections; cpu: the worker of the core that received them; spread: "
        "all workers evenly; auto: the mode that suits the network cards",
        "auto",
    ),
    Option(
        "pin",
        Word(PINS),
        "workers",
        "pin each worker to the core of its slot; auto: while steering is cpu",
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
        Word(HTTP, (("h11", "the server has its own HTTP parser; leave --http out"),)),
        "HTTP",
        "HTTP parser, for compatibility with uvicorn; there is only one, as strict as httptools",
        "auto",
    ),
    Option(
        "ws",
        Word(WS, (("wsproto", "use websockets, or none"),)),
        "HTTP",
        "WebSocket library, for compatibility with uvicorn; there is only one; none: a request "
        "for a WebSocket is served as plain HTTP",
        "auto",
    ),
    Option(
        "wsgi_threads",
        Whole(least=0, most=1000),
        "HTTP",
        "threads per worker that call a WSGI application, one for each request that may wait for "
        "a database at the same time; 0: the event loop's thread calls it, one request at a time, "
        "and other workers take waiting connections",
        10,
        since="0.2",
    ),
    Option(
        "wsgi_underscores",
        YES,
        "HTTP",
        "pass header fields with an underscore in the name to a WSGI application, which cannot "
        "tell X_Name from X-Name",
        False,
        since="0.2",
    ),
    Option(
        "root_path",
        Text("PATH"),
        "HTTP",
        "path at which a proxy mounts the application",
        "",
    ),
    Option(
        "proxy_headers",
        YES,
        "HTTP",
        "use X-Forwarded-For and X-Forwarded-Proto from trusted proxies (--forwarded-allow-ips)",
        True,
    ),
    Option(
        "forwarded_allow_ips",
        Text("LIST", commas=True),
        "HTTP",
        "trusted proxies: addresses and networks separated by commas, or * for all",
        unset="127.0.0.1",
        variable="FORWARDED_ALLOW_IPS",
        late=True,
    ),
    Option(
        "proxy_protocol",
        FLAG,
        "HTTP",
        "require a PROXY protocol header, version 1 or 2, at the start of each connection from a "
        "trusted proxy (--forwarded-allow-ips); connections without it are closed",
        False,
        since="0.2",
    ),
    Option("access_log", YES, "HTTP", "write an access log line for each response", True),
    Option(
        "access_log_format",
        Text("FORMAT"),
        "HTTP",
        "format of access log lines: json, or text with gunicorn's atoms, such as %(h)s, %(r)s, "
        "%(s)s, %(D)s and %({x-request-id}i)s, and with %(queue)s for the seconds in the kernel's "
        "queue",
        unset="the Common Log Format",
        since="0.2",
    ),
    Option(
        "access_log_file",
        Text("FILE"),
        "HTTP",
        "write access log lines to this file; USR1 reopens it",
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
        "largest WebSocket message in bytes that is accepted from a client",
        16 * 1024 * 1024,
    ),
    Option(
        "ws_ping_interval",
        Seconds(),
        "HTTP",
        "send a ping to a WebSocket client that has been silent for this long",
        20.0,
    ),
    Option(
        "ws_ping_timeout",
        Seconds(),
        "HTTP",
        "close a WebSocket if the client does not answer a ping within this time",
        20.0,
    ),
    Option(
        "ws_per_message_deflate",
        YES,
        "HTTP",
        "compress WebSocket messages, if the client supports it",
        True,
    ),
    Option(
        "ws_deflate_window",
        Whole(9, 15, metavar="BITS"),
        "HTTP",
        "window of WebSocket compression, as a power of two; compressing a message takes up to "
        "eight times this number of bytes; smaller windows compress less",
        12,
        since="0.2",
    ),
    Option(
        "ws_deflate_level",
        Whole(1, 9, metavar="LEVEL"),
        "HTTP",
        "effort of WebSocket compression: 1 is the fastest, 9 gives the smallest messages",
        3,
        since="0.2",
    ),
    Option(
        "queue_time",
        FLAG,
        "HTTP",
        "tell applications how long a connection's first request waited in the kernel's queue: "
        "aiofastsocket.queue_time in the extensions of the ASGI scope or in the WSGI environ",
        False,
        since="0.2",
    ),
    Option(
        "health_path",
        Text("PATH"),
        "HTTP",
        "path of health checks, which are answered without the application and not logged: 200, "
        "or 503 once the service stops",
        unset="no health checks",
        since="0.2",
    ),
    # -- limits --
    Option(
        "limit_concurrency",
        Whole(),
        "limits",
        "most connections, or requests in progress, per worker; further requests get 503",
        unset="no limit",
    ),
    Option(
        "shed_after",
        Seconds(),
        "limits",
        "longest time of a connection's first request in the kernel's queue; requests that waited "
        "longer get 503",
        unset="no limit",
        since="0.2",
    ),
    Option(
        "limit_max_requests",
        Whole(),
        "limits",
        "number of requests after which a worker is replaced",
        unset="no limit",
    ),
    Option(
        "limit_max_requests_jitter",
        Whole(least=0),
        "limits",
        "largest random number added to --limit-max-requests for each worker, so that workers are "
        "not all replaced at once",
        0,
        since="0.2",
    ),
    Option(
        "limit_worker_rss",
        Whole(metavar="BYTES"),
        "limits",
        "resident memory in bytes above which a worker is replaced",
        unset="no limit",
        since="0.2",
    ),
    Option(
        "limit_worker_lifetime",
        Seconds(),
        "limits",
        "time after which a worker is replaced; workers are replaced one at a time",
        unset="no limit",
        since="0.2",
    ),
    Option(
        "limit_request_line",
        Whole(metavar="BYTES"),
        "limits",
        "longest request target in bytes; longer ones get 414",
        8192,
    ),
    Option(
        "limit_request_fields",
        Whole(),
        "limits",
        "most header fields per request; requests with more get 431",
        100,
    ),
    Option(
        "limit_request_head",
        Whole(metavar="BYTES"),
        "limits",
        "largest size in bytes of all header fields of a request; larger ones get 431",
        65536,
    ),
    Option(
        "timeout_tls_handshake",
        Seconds(),
        "limits",
        "time for a client to complete the TLS handshake; slower clients are disconnected",
        10.0,
        since="0.2",
    ),
    Option(
        "timeout_keep_alive",
        Seconds(),
        "limits",
        "close a connection that has been idle for this long",
        5.0,
    ),
    Option(
        "timeout_request_head",
        Seconds(),
        "limits",
        "time for a client to send the head of a request; slower clients get 408",
        30.0,
    ),
    Option(
        "timeout_request_body",
        Seconds(),
        "limits",
        "longest time without new data of a request body; slower clients get 408",
        60.0,
    ),
    # -- service --
    Option(
        "drain_delay",
        Seconds(zero=True),
        "service",
        "time between TERM and the stop of the service; meanwhile it serves, but --health-path "
        "gets 503, so that load balancers send new requests elsewhere",
        0.0,
        since="0.2",
    ),
    Option(
        "timeout_graceful_shutdown",
        Seconds(zero=True),
        "service",
        "time for open connections to end by themselves after TERM or HUP",
        30.0,
    ),
    Option(
        "timeout_disconnect",
        Seconds(zero=True),
        "limits",
        "time for an application to end a request after a stopping service has told it that the "
        "client is gone; then the task is cancelled",
        3.0,
        since="0.2",
    ),
    Option(
        "timeout_lifespan_startup",
        Seconds(),
        "service",
        "time for an ASGI application to start; if it takes longer, the worker has failed",
        unset="no limit",
        since="0.2",
    ),
    Option(
        "timeout_lifespan_shutdown",
        Seconds(zero=True),
        "service",
        "time for an ASGI application to shut down after its last connection has ended",
        10.0,
        since="0.2",
    ),
    Option(
        "timeout_worker",
        Seconds(),
        "service",
        "replace a worker if a handler has held up its event loop, or if WSGI requests have held "
        "up all its threads, for this long; its stacks are logged first; 30 is a good value",
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
        "serve metrics for Prometheus under /metrics at this address: host:port, [ipv6]:port or "
        "unix:path; a port or :port alone means 127.0.0.1",
        unset="no metrics",
        since="0.2",
    ),
    Option(
        "log_level",
        Word(LOG_LEVELS, (("trace", "use debug"),)),
        "service",
        "lowest level of lines that are logged",
        "info",
    ),
    Option(
        "log_file",
        Text("FILE"),
        "service",
        "write the server's own log lines to this file; USR1 reopens it",
        unset="standard error",
        since="0.2",
    ),
    Option(
        "log_format",
        Word(("text", "json")),
        "service",
        "format of the server's own log lines",
        "text",
        since="0.2",
    ),
    Option(
        "log_config",
        Anything("FILE"),
        "service",
        "configuration file of Python's logging, .json or .ini, for all log lines",
        unset="log lines go to standard error, access log lines to standard output",
    ),
)

BY_NAME = {option.name: option for option in OPTIONS}


def default(name: str) -> Any:
    """The default of an option, for the field that holds it."""
    return BY_NAME[name].default


def check(config: Any) -> None:
    """Raise UsageError if a field of a config has a value that its option does not allow. None is
    allowed: it means that the option is not given."""
    for name, value in vars(config).items():
        option = BY_NAME.get(name)
        if option is not None and value is not None and not is_dataclass(value):
            option.kind.convert(option.flag, value)
