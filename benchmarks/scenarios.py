"""The measurements as data: servers, loads, comparisons and aims. This module runs nothing.

A new peer is an entry of ENVIRONMENTS (if it needs packages) and a Server; a new scenario is an
entry of SCENARIOS.
"""

from dataclasses import dataclass

BACKLOG = 4096

OURS = "aiofastsocket"  # the package that is installed from this repository
ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "ours": (OURS, "prometheus-client"),
    "uvloop": ("uvloop",),
    "asyncio": (),
    "ours-fastapi": (OURS, "fastapi"),
    "uvicorn": ("uvicorn", "httptools", "uvloop", "websockets", "fastapi"),
    "granian": ("granian", "uvloop", "fastapi"),
    "peregrine": ("peregrine-server", "uvloop", "fastapi"),
    "h2corn": ("h2corn", "uvloop", "fastapi"),
    "hypercorn": ("hypercorn", "uvloop"),
    "gunicorn": ("gunicorn", "uvloop", "httptools"),
    "report": ("matplotlib",),
}


@dataclass(frozen=True)
class Server:
    """One way to run a server, under a name that the scenario's table shows.

    In `command`, {env} is the environment's folder, {apps} and {bin} our Python and C servers,
    {dir} a folder for this run, {config} the file made of conf/`config`, with `listen` in it,
    {cert} and {key} a certificate and its key.
    """

    name: str
    command: tuple[str, ...]
    environment: str | None = None
    workers: int = 1
    config: str | None = None
    listen: str = ""
    tls: bool = False


@dataclass(frozen=True)
class Wrk:
    """As many requests as the clients get answered; by default one request per connection."""

    connections: int
    headers: tuple[str, ...] = ("Connection: close",)
    unit: str = "connection"
    path: str = "/"
    body: int = 0  # bytes to POST


@dataclass(frozen=True)
class Handshakes:
    """One request per connection, each with a full handshake, by ab: wrk resumes sessions."""

    connections: int
    unit = "connection"


@dataclass(frozen=True)
class Download:
    """One response of `mebibytes` MiB (curl)."""

    mebibytes: int
    unit = "response"


@dataclass(frozen=True)
class TlsIdle:
    """TLS connections that send nothing, or nothing more: see tls_idle.py for `kind`."""

    connections: int
    kind: str
    unit = "connection"


@dataclass(frozen=True)
class Echo:
    """Messages there and back on long connections, one on its way in each."""

    connections: int
    size: int
    unit = "message"


@dataclass(frozen=True)
class WebSockets:
    """WebSocket messages there and back on long connections, one on its way in each."""

    connections: int
    size: int
    unit = "message"


@dataclass(frozen=True)
class Idle:
    """Connections that send nothing, except one that sends messages of 100 bytes."""

    connections: int
    unit = "message"


@dataclass(frozen=True)
class Flood:
    """Short connections, all at once."""

    connections: int
    unit = "connection"


@dataclass(frozen=True)
class Arrivals:
    """Short connections at random times; one in `block` asks for the handler that blocks."""

    rate: float
    block: int
    unit = "connection"


Load = Wrk | Handshakes | Download | Echo | WebSockets | Idle | TlsIdle | Flood | Arrivals


@dataclass(frozen=True)
class Aim:
    """A limit for the median of a ratio: the product of `over` by that of `under` in one round."""

    over: tuple[str, ...]
    under: tuple[str, ...]
    limit: float
    metric: str = "cpu_us"


@dataclass(frozen=True)
class Scenario:
    """Servers under one load.

    `against`: the servers that the others are compared with. `metrics`: the compared figures.
    `seconds`: the length of a measurement, in the short run and in the full one.
    """

    name: str
    title: str
    about: str
    servers: tuple[Server, ...]
    load: Load
    against: tuple[str, ...]
    metrics: tuple[str, ...] = ("cpu_us",)
    aims: tuple[Aim, ...] = ()
    seconds: tuple[int, int] = (1, 3)


def _python(name: str, app: str, loop: str, *options: str, workers: int = 1) -> Server:
    """A server of apps/, in the environment of its peer."""
    return Server(
        name,
        (
            *("{env}/bin/python", "{apps}/" + app, "--loop", loop, "--port", "{port}"),
            *("--backlog", "{backlog}", "--workers", "{workers}", *options),
        ),
        loop.split("-")[0],
        workers,
    )


def _loops(app: str) -> tuple[Server, ...]:
    return (
        _python("ours", app, "ours-uvloop"),
        _python("ours-asyncio", app, "ours-asyncio"),
        _python("uvloop", app, "uvloop"),
        _python("asyncio", app, "asyncio"),
    )


def _deferred(app: str) -> tuple[Server, ...]:
    return (
        _python("ours-defer", app, "ours-uvloop", "--defer-accept"),
        _python("ours-asyncio-defer", app, "ours-asyncio", "--defer-accept"),
    )


def _c(name: str, program: str, *options: str) -> Server:
    return Server(name, ("{bin}/" + program, "{port}", "{backlog}", *options))


_PROGRAMS = {
    "nginx": ("nginx.conf", ("nginx", "-p", "{dir}", "-c", "{config}")),
    "haproxy": ("haproxy.cfg", ("haproxy", "-db", "-f", "{config}")),
    "lighttpd": ("lighttpd.conf", ("lighttpd", "-D", "-f", "{config}")),
}


def _program(
    name: str,
    program: str,
    *,
    workers: int = 1,
    shim: tuple[str, ...] = (),
    listen: str = "",
) -> Server:
    """Another project's server, plain or with libfsocket.so preloaded (`shim`: options of exec).

    listen: the text at the address in its configuration.
    """
    config, command = _PROGRAMS[program]
    before = ("{env}/bin/aiofastsocket", "exec", *shim, "--") if shim else ()
    environment = "ours" if shim else None
    return Server(name, (*before, *command), environment, workers, config, listen)


_TLS = {
    "ours": ("--ssl-certfile", "{cert}", "--ssl-keyfile", "{key}"),
    "uvicorn": ("--ssl-certfile", "{cert}", "--ssl-keyfile", "{key}"),
    "granian": ("--ssl-certificate", "{cert}", "--ssl-keyfile", "{key}"),
    "peregrine": ("--no-http2", "--tls-cert", "{cert}", "--tls-key", "{key}"),
    "h2corn": ("--certfile", "{cert}", "--keyfile", "{key}"),
}


def _asgi(
    peer: str,
    app: str = "hello_asgi",
    *,
    name: str = "",
    workers: int = 1,
    tls: bool = False,
    more: tuple[str, ...] = (),
) -> Server:
    """A server with an application of apps/, on ASGI or WSGI by its name, without its access log.

    peer: "ours", or "ours-now" without deferred accept, "ours-log" with the log, "ours-format" and
    "ours-json" with it in another format, "ours-told" with metrics, time in the queue, a health
    path and --shed-after, "ours-loop" with WSGI on its loop's thread, "uvicorn", "granian",
    "peregrine", "h2corn", "hypercorn", "gunicorn".
    """
    target, many = f"{app}:app", ("--workers", "{workers}")
    interface = "wsgi" if app.endswith("wsgi") else "asgi"
    worker = ("gthread", "--threads", "10") if interface == "wsgi" else ("asgi",)
    address = ("--host", "127.0.0.1", "--port", "{port}")
    ours = ("{env}/bin/aiofastsocket", "serve", target, "--app-dir", "{apps}", "--no-access-log")
    elsewhere = ("env", "PYTHONPATH={apps}")
    quiet = ("--no-access-log", "--log-level", "warning")
    commands = {
        "ours": (*ours, *address, *many, "--backlog", "{backlog}"),
        "ours-now": (*ours, *address, *many, "--backlog", "{backlog}", "--no-defer-accept"),
        "ours-loop": (*ours, *address, *many, "--backlog", "{backlog}", "--wsgi-threads", "0"),
        "ours-log": (*ours, "--access-log", *address, *many, "--backlog", "{backlog}"),
        "ours-format": (
            *(*ours, "--access-log", *address, *many, "--backlog", "{backlog}"),
            *("--access-log-format", '%(h)s %(t)s "%(r)s" %(s)s %(b)s %(D)s %(queue)s "%(a)s"'),
        ),
        "ours-json": (
            *(*ours, "--access-log", *address, *many, "--backlog", "{backlog}"),
            *("--access-log-format", "json"),
        ),
        "ours-told": (
            *(*ours, *address, *many, "--backlog", "{backlog}", "--metrics", "0", "--queue-time"),
            *("--shed-after", "5", "--health-path", "/healthz"),
        ),
        "uvicorn": (
            *("{env}/bin/uvicorn", target, "--app-dir", "{apps}", *quiet, *address, *many),
            *("--backlog", "{backlog}", "--loop", "uvloop", "--http", "httptools"),
        ),
        "granian": (
            *("{env}/bin/granian", target, "--interface", interface, "--working-dir", "{apps}"),
            *(*quiet, *address, *many, "--backlog", "{backlog}", "--loop", "uvloop"),
        ),
        "peregrine": (
            *("{env}/bin/peregrine", "--python-path", "{apps}", *address, *many),
            *("--backlog", "{backlog}", target),
        ),
        "h2corn": ("{env}/bin/h2corn", "--app-dir", "{apps}", *address, *many, target),
        "hypercorn": (
            *(*elsewhere, "{env}/bin/hypercorn", target, "--bind", "127.0.0.1:{port}"),
            *(*many, "--backlog", "{backlog}", "--worker-class", "uvloop"),
        ),
        "gunicorn": (
            *(*elsewhere, "{env}/bin/gunicorn", target, "--bind", "127.0.0.1:{port}"),
            *(*many, "--backlog", "{backlog}", "--worker-class", *worker, "--log-level", "warning"),
        ),
    }
    environment = peer.partition("-")[0]
    if environment == "ours" and app == "json_fastapi":
        environment = "ours-fastapi"
    command = commands[peer]
    if tls:
        own = _TLS[environment]
        if peer in ("peregrine", "h2corn"):  # their targets come last
            command = (*command[:-1], *own, command[-1])
        else:
            command = (*command, *own)
    return Server(name or peer, (*command, *more), environment, workers, tls=tls)


_ASGI_PEERS = ("uvicorn", "granian", "hypercorn", "gunicorn")
_NATIVE_PEERS = ("peregrine", "granian", "h2corn")


def _websocket(size: int, name: str) -> Scenario:
    return Scenario(
        name=f"websocket-{name}",
        title=f"WebSocket echo, {size:,} bytes",
        about="In plain ASGI; 64 connections, one message on its way in each.",
        servers=tuple(_asgi(peer, "echo_asgi") for peer in ("ours", *_NATIVE_PEERS, "uvicorn")),
        load=WebSockets(64, size),
        against=(*_NATIVE_PEERS, "uvicorn"),
        aims=(Aim(("ours",), ("peregrine",), 1.00), Aim(("ours",), ("granian",), 0.45)),
    )


def _shim(program: str, own_reuseport: str = "") -> Scenario:
    spread = ("--steer", "spread")
    servers = [
        _program("plain", program, workers=2),
        _program("shim", program, workers=2, shim=spread),
        _program("shim-defer", program, workers=2, shim=(*spread, "--defer-accept")),
    ]
    if own_reuseport:
        servers.append(_program("reuseport", program, workers=2, listen=own_reuseport))
    return Scenario(
        name=f"shim-{program}",
        title=f"{program}, plain and with libfsocket.so",
        about="Two workers. `reuseport` is the program's own way to give each worker a listener.",
        servers=tuple(servers),
        load=Wrk(64),
        against=("plain",),
    )


def _tls(
    name: str,
    title: str,
    about: str,
    load: Load,
    aims: dict[str, float],
    *,
    app: str = "hello_asgi",
    metric: str = "cpu_us",
) -> Scenario:
    """aims: limits by peer. Each server and this client use their default keys and versions."""
    patient = {"ours": ("--timeout-keep-alive", "600", "--timeout-tls-handshake", "600")}
    if isinstance(load, TlsIdle):
        patient["uvicorn"] = ("--timeout-keep-alive", "600")
    peers = ("uvicorn", "granian", "peregrine", "h2corn")
    servers = (_asgi(peer, app, tls=True, more=patient.get(peer, ())) for peer in ("ours", *peers))
    return Scenario(
        name=f"tls-{name}",
        title=f"TLS, {title}",
        about=about,
        servers=tuple(servers),
        load=load,
        against=peers,
        metrics=(metric,),
        aims=tuple(Aim(("ours",), (peer,), limit, metric) for peer, limit in aims.items()),
    )


SCENARIOS = (
    Scenario(
        name="raw-short",
        title="Raw protocol, short connections",
        about="An `asyncio.Protocol` that answers one request and closes. `c-epoll` is a plain C "
        "server; `c-limit` defers accept and registers nothing, but sends and closes as other "
        "servers do; `c-limit-fin` also lets the answer and the FIN share a segment, as ours does.",
        servers=(
            *_loops("raw.py"),
            *_deferred("raw.py"),
            _c("c-epoll", "epoll_server"),
            _c("c-limit", "limit_server"),
            _c("c-limit-fin", "limit_server", "fin"),
            _program("nginx", "nginx"),
            _program("nginx-deferred", "nginx", listen="deferred"),
        ),
        load=Wrk(64),
        against=(
            *("uvloop", "asyncio", "c-epoll", "c-limit", "c-limit-fin"),
            *("nginx", "nginx-deferred"),
        ),
        aims=(
            Aim(("ours",), ("uvloop",), 0.60),
            Aim(("ours-defer",), ("uvloop",), 0.60),
            Aim(("ours-defer",), ("c-limit",), 1.30),
            Aim(("ours",), ("nginx",), 0.80),
            Aim(("ours-defer",), ("nginx",), 0.80),
        ),
    ),
    Scenario(
        name="streams-short",
        title="Streams, short connections",
        about="`asyncio.start_server`: read one request, answer, drain, close.",
        servers=(*_loops("streams.py"), *_deferred("streams.py")),
        load=Wrk(64),
        against=("uvloop", "asyncio"),
        aims=(
            Aim(("ours",), ("uvloop",), 0.75),
            Aim(("ours-defer",), ("uvloop",), 0.75),
        ),
    ),
    Scenario(
        name="echo-small",
        title="Echo, 100 bytes on long connections",
        about="64 connections, one message on its way in each.",
        servers=_loops("echo.py"),
        load=Echo(64, 100),
        against=("uvloop", "asyncio"),
        aims=(Aim(("ours",), ("uvloop",), 1.00),),
    ),
    Scenario(
        name="echo-large",
        title="Echo, 64 KiB on long connections",
        about="16 connections, one message on its way in each.",
        servers=_loops("echo.py"),
        load=Echo(16, 65536),
        against=("uvloop", "asyncio"),
        aims=(Aim(("ours",), ("uvloop",), 1.00),),
    ),
    Scenario(
        name="idle",
        title="Idle connections",
        about="Memory is the growth of the process's proportional set size (PSS) per connection, "
        "without the kernel's memory for the socket. CPU and latency are those of the one "
        "connection that sends messages.",
        servers=_loops("echo.py"),
        load=Idle(10_000),
        against=("uvloop", "asyncio"),
        metrics=("memory", "cpu_us"),
        aims=(Aim(("ours",), ("uvloop",), 0.80, "memory"),),
    ),
    Scenario(
        name="workers",
        title="One worker and two",
        about="The raw protocol. Two workers listen on a listen table (ours), on one inherited "
        "socket, or each on its own `SO_REUSEPORT` socket. With fewer than three cores, both "
        "workers share one: then the figures show the cost of sharing, not its gain.",
        servers=(
            _python("ours-1", "raw.py", "ours-uvloop"),
            _python("ours-2", "raw.py", "ours-uvloop", "--sharing", "table", workers=2),
            _python("uvloop-1", "raw.py", "uvloop"),
            _python("uvloop-2", "raw.py", "uvloop", "--sharing", "inherited", workers=2),
            _python("uvloop-2-own", "raw.py", "uvloop", "--sharing", "reuseport", workers=2),
        ),
        load=Wrk(64),
        against=("uvloop-1", "uvloop-2", "uvloop-2-own"),
        aims=(
            Aim(("ours-2", "uvloop-1"), ("ours-1", "uvloop-2"), 1.05),
            Aim(("ours-2", "uvloop-1"), ("ours-1", "uvloop-2-own"), 1.05),
        ),
    ),
    Scenario(
        name="tail",
        title="Tail latency while a handler blocks",
        about="Two workers; 60 requests per second at random times. One request in 20 blocks its "
        "worker for 100 ms. Latency is that of the other requests; `delayed` is the share of them "
        "that waited for more than 10 ms. While both workers block, no request is served.",
        servers=(
            _python("ours", "blocking.py", "ours-uvloop", "--sharing", "table", workers=2),
            _python("uvloop", "blocking.py", "uvloop", "--sharing", "inherited", workers=2),
            _python("uvloop-own", "blocking.py", "uvloop", "--sharing", "reuseport", workers=2),
        ),
        load=Arrivals(rate=60, block=20),
        against=("uvloop", "uvloop-own"),
        metrics=("delayed",),
        seconds=(3, 12),
    ),
    Scenario(
        name="flood",
        title="5,000 connections at once",
        about="The client begins all connections before it reads an answer: latency is the time "
        "that the last ones wait in the queue.",
        servers=(
            *_loops("raw.py"),
            _python("ours-defer", "raw.py", "ours-uvloop", "--defer-accept"),
            _c("c-epoll", "epoll_server"),
            _program("nginx", "nginx"),
        ),
        load=Flood(5_000),
        against=("uvloop", "asyncio", "c-epoll", "nginx"),
    ),
    Scenario(
        name="asgi-short",
        title="ASGI, short connections",
        about="Hello in plain ASGI, one request per connection, one worker. `ours` defers accept, "
        "which is the default of `serve`; `ours-now` does not.",
        servers=(*map(_asgi, ("ours", "ours-now", "peregrine", "h2corn", *_ASGI_PEERS)),),
        load=Wrk(64),
        against=("peregrine", "h2corn", *_ASGI_PEERS),
        aims=(
            Aim(("ours",), ("peregrine",), 0.70),
            Aim(("ours",), ("granian",), 0.45),
            Aim(("ours",), ("uvicorn",), 0.36),
        ),
    ),
    Scenario(
        name="asgi-keep",
        title="ASGI, kept connections",
        about="Hello in plain ASGI on 64 connections that stay open. `ours-log` writes its access "
        "log to a file.",
        servers=(*map(_asgi, ("ours", "ours-log", "peregrine", "h2corn", *_ASGI_PEERS)),),
        load=Wrk(64, headers=(), unit="request"),
        against=("peregrine", "h2corn", *_ASGI_PEERS),
        aims=(
            Aim(("ours",), ("peregrine",), 1.00),
            Aim(("ours",), ("granian",), 0.50),
            Aim(("ours",), ("uvicorn",), 0.75),
        ),
    ),
    Scenario(
        name="told-keep",
        title="Cost of metrics and logs, kept connections",
        about="Hello in plain ASGI on 64 connections that stay open: with metrics and related "
        "options (`ours-told`), and with an access log in a file, in the default format "
        "(`ours-log`), in a format of eight atoms (`ours-format`) and as JSON (`ours-json`).",
        servers=(*map(_asgi, ("ours", "ours-told", "ours-log", "ours-format", "ours-json")),),
        load=Wrk(64, headers=(), unit="request"),
        against=("ours",),
    ),
    Scenario(
        name="told-short",
        title="Cost of metrics and logs, short connections",
        about="The servers of `told-keep`, with one request per connection.",
        servers=(*map(_asgi, ("ours", "ours-told", "ours-log", "ours-format", "ours-json")),),
        load=Wrk(64),
        against=("ours",),
    ),
    _tls(
        "keep",
        "kept connections",
        "Hello in plain ASGI over HTTP/1.1; 64 connections that stay open; ECDSA P-256.",
        Wrk(64, headers=(), unit="request"),
        {"uvicorn": 0.40, "granian": 0.80, "peregrine": 1.25},
    ),
    _tls(
        "short",
        "a connection each, sessions resumed",
        "Hello in plain ASGI, one request per connection; wrk resumes its session.",
        Wrk(64),
        {"uvicorn": 0.85, "granian": 2.0},
    ),
    _tls(
        "full",
        "a connection each, full handshakes",
        "Hello in plain ASGI, one request per connection, by ab, which does not resume sessions.",
        Handshakes(32),
        {"uvicorn": 0.90},
    ),
    _tls(
        "down",
        "responses of 64 KiB",
        "16 connections that stay open.",
        Wrk(16, headers=(), unit="request", path="/1"),
        {"uvicorn": 0.80, "granian": 1.2},
        app="bulk_asgi",
    ),
    _tls(
        "up",
        "requests of 64 KiB",
        "16 connections that stay open; the application reads the body.",
        Wrk(16, headers=(), unit="request", body=65536),
        {"uvicorn": 0.80, "granian": 1.2},
        app="bulk_asgi",
    ),
    _tls(
        "large",
        "a response of 1 GiB",
        "Sent in parts of 64 KiB, to curl.",
        Download(1024),
        {"uvicorn": 0.80, "granian": 1.2},
        app="bulk_asgi",
    ),
    *(
        _tls(
            f"idle-{kind}",
            about,
            "1,000 connections; memory is the growth of PSS per connection.",
            TlsIdle(1000, kind),
            {"uvicorn": 0.45, "granian": 0.70} if kind == "idle" else {},
            metric="memory",
        )
        for kind, about in (
            ("idle", "idle connections that have sent one request"),
            ("silent", "connections that have sent nothing"),
            ("partial", "connections with half a first record"),
        )
    ),
    _websocket(100, "small"),
    _websocket(16384, "large"),
    Scenario(
        name="wsgi-short",
        title="WSGI, short connections",
        about="Hello in plain WSGI, one request per connection, one worker with its default number "
        "of threads (gunicorn: ten). `ours-loop` has no threads.",
        servers=tuple(
            _asgi(peer, "hello_wsgi")
            for peer in ("ours", "ours-loop", "peregrine", "granian", "gunicorn")
        ),
        load=Wrk(64),
        against=("peregrine", "granian", "gunicorn"),
        aims=(Aim(("ours",), ("peregrine",), 0.75), Aim(("ours",), ("granian",), 0.55)),
    ),
    Scenario(
        name="wsgi-keep",
        title="WSGI, kept connections",
        about="Hello in plain WSGI on 64 connections that stay open.",
        servers=tuple(
            _asgi(peer, "hello_wsgi")
            for peer in ("ours", "ours-loop", "peregrine", "granian", "gunicorn")
        ),
        load=Wrk(64, headers=(), unit="request"),
        against=("peregrine", "granian", "gunicorn"),
        aims=(Aim(("ours",), ("peregrine",), 1.10), Aim(("ours",), ("granian",), 0.55)),
    ),
    Scenario(
        name="fastapi-keep",
        title="FastAPI, kept connections",
        about="A small JSON document on 64 connections that stay open: most of the cost is the "
        "framework's.",
        servers=tuple(_asgi(peer, "json_fastapi") for peer in ("ours", *_NATIVE_PEERS, "uvicorn")),
        load=Wrk(64, headers=(), unit="request"),
        against=(*_NATIVE_PEERS, "uvicorn"),
        aims=(
            Aim(("ours",), ("peregrine",), 1.00),
            Aim(("ours",), ("granian",), 0.90),
            Aim(("ours",), ("uvicorn",), 0.90),
        ),
    ),
    Scenario(
        name="asgi-tail",
        title="ASGI, tail latency while a handler blocks",
        about="The load of `tail`, in plain ASGI.",
        servers=(*(_asgi(peer, workers=2) for peer in ("ours", *_ASGI_PEERS)),),
        load=Arrivals(rate=60, block=20),
        against=_ASGI_PEERS,
        metrics=("delayed",),
        aims=tuple(Aim(("ours",), (peer,), 1.00, "delayed") for peer in _ASGI_PEERS),
        seconds=(8, 12),
    ),
    _shim("nginx", "reuseport"),
    _shim("haproxy", "shards by-thread"),
    _shim("lighttpd"),
)
