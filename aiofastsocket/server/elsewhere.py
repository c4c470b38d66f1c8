"""Options, variables and files of gunicorn and uvicorn that are not supported here, with their
replacements, for an error or a line at the start. docs/gunicorn.md and docs/uvicorn.md describe the
differences.

A test asks both servers for their options: each is one of ours, or is listed here.
"""

import os
from collections.abc import Iterable
from pathlib import Path

_OWN_LISTENERS = "every worker has its own listener without an option"
_LOGGING = "--log-config, a configuration of Python's logging"
_HTTP_1 = "only HTTP/1.1 is supported; a proxy in front can serve HTTP/2"
_STRICT = "requests are always parsed strictly"
_STATS = "--metrics for Prometheus, or aiofastsocket stats --json for other programs"

# By option: the option to use here, or a sentence if there is none.
OPTIONS = {
    # gunicorn
    "-k": "leave it out: the kind of program is detected, and --loop chooses the event loop",
    "--worker-class": "leave it out: the kind is detected, and --loop chooses the event loop",
    "--threads": "use --wsgi-threads N, for a WSGI application",
    "--worker-connections": "--limit-concurrency",
    "--max-requests": "--limit-max-requests",
    "--max-requests-jitter": "--limit-max-requests-jitter",
    "-t": "--timeout-worker",
    "--timeout": "--timeout-worker",
    "--graceful-timeout": "--timeout-graceful-shutdown",
    "--keep-alive": "--timeout-keep-alive",
    "--limit-request-field_size": "--limit-request-head, for all fields together",
    "--reload-engine": "leave it out: --reload gets its events from the kernel",
    "--reload-extra-file": "--reload-dir and --reload-include",
    "--spew": "leave it out: use a tracer or profiler of Python",
    "--no-sendfile": "leave it out: only http.response.pathsend uses sendfile(2)",
    "--reuse-port": f"leave it out: {_OWN_LISTENERS}",
    "--chdir": "--app-dir",
    "-D": "leave it out: run it under systemd, or in the shell with & and --pid-file",
    "--daemon": "leave it out: run it under systemd, or in the shell with & and --pid-file",
    "-e": "set it for the command: env NAME=VALUE aiofastsocket serve",
    "--env": "set it for the command: env NAME=VALUE aiofastsocket serve",
    "-p": "--pid-file",
    "--pid": "--pid-file",
    "--worker-tmp-dir": "leave it out: workers write no heartbeat files",
    "-u": "--user",
    "-g": "--group",
    "-m": "set it for the command: umask 027; aiofastsocket serve",
    "--umask": "set it for the command: umask 027; aiofastsocket serve",
    "--initgroups": "leave it out: --user also sets the user's groups",
    "--access-logfile": "--access-log-file; without it, the access log goes to standard output",
    "--access-logformat": "--access-log-format",
    "--error-logfile": "--log-file",
    "--capture-output": "leave it out: output of the program goes to its standard streams",
    "--logger-class": _LOGGING,
    "--log-config-json": "--log-config",
    "--log-syslog": _LOGGING,
    "--log-syslog-to": _LOGGING,
    "--log-syslog-prefix": _LOGGING,
    "--log-syslog-facility": _LOGGING,
    "--disable-redirect-access-to-syslog": _LOGGING,
    "-R": "leave it out: workers inherit the standard streams",
    "--enable-stdio-inheritance": "leave it out: workers inherit the standard streams",
    "--statsd-host": _STATS,
    "--dogstatsd-tags": _STATS,
    "--statsd-prefix": _STATS,
    "--enable-backlog-metric": _STATS,
    "-n": "leave it out: a process is identified by its command line",
    "--name": "leave it out: a process is identified by its command line",
    "--pythonpath": "--app-dir",
    "--paste": "name a module that calls paste.deploy.loadapp",
    "--paster": "name a module that calls paste.deploy.loadapp",
    "--paste-global": "name a module that calls paste.deploy.loadapp",
    "--proxy-allow-from": "--forwarded-allow-ips",
    "--protocol": "only HTTP is supported, not the uwsgi protocol",
    "--uwsgi-allow-from": "only HTTP is supported, not the uwsgi protocol",
    "--keyfile": "--ssl-keyfile",
    "--certfile": "--ssl-certfile",
    "--ssl-version": "--ssl-min-version; TLS 1.2 and 1.3 are supported",
    "--cert-reqs": "--ssl-cert-reqs",
    "--ca-certs": "--ssl-ca-certs",
    "--suppress-ragged-eofs": "leave it out: a client that leaves without notice is not an error",
    "--do-handshake-on-connect": "leave it out: the handshake begins with the connection",
    "--ciphers": "--ssl-ciphers",
    "--http-protocols": _HTTP_1,
    "--http2-cleartext": _HTTP_1,
    "--http2-max-concurrent-streams": _HTTP_1,
    "--http2-initial-window-size": _HTTP_1,
    "--http2-max-frame-size": _HTTP_1,
    "--http2-max-header-list-size": _HTTP_1,
    "--permit-obsolete-folding": _STRICT,
    "--strip-header-spaces": _STRICT,
    "--permit-unconventional-http-method": _STRICT,
    "--permit-unconventional-http-version": _STRICT,
    "--casefold-http-method": _STRICT,
    "--forwarder-headers": "leave it out: no header field changes SCRIPT_NAME; --root-path does",
    "--header-map": "leave it out: fields keep the names that clients send",
    "--asgi-loop": "--loop",
    "--asgi-lifespan": "--lifespan",
    "--asgi-disconnect-grace-period": "--timeout-disconnect",
    "--websocket-max-message-size": "--ws-max-size",
    "--http-parser": "leave it out: there is only one parser",
    "--dirty-app": "use a process pool in the program, as in concurrent.futures",
    "--dirty-workers": "use a process pool in the program, as in concurrent.futures",
    "--dirty-timeout": "use a process pool in the program, as in concurrent.futures",
    "--dirty-threads": "use a process pool in the program, as in concurrent.futures",
    "--dirty-graceful-timeout": "use a process pool in the program, as in concurrent.futures",
    "--control-socket": "signals control the service; aiofastsocket stats shows it",
    "--control-socket-mode": "signals control the service; aiofastsocket stats shows it",
    "--no-control-socket": "leave it out: there is no control socket",
    # uvicorn
    "--http2": _HTTP_1,
    "--ws-max-queue": "leave it out: messages are read only as fast as the application receives",
    "--use-colors": "leave it out: the log has no colors",
    "--no-use-colors": "leave it out: the log has no colors",
    "--timeout-worker-healthcheck": "--timeout-worker",
    "--h11-max-incomplete-event-size": "--limit-request-head",
    "--reset-contextvars": "leave it out: each connection has its own context",
}


def said_of(arguments: Iterable[str]) -> str:
    """One sentence on the unknown arguments that are listed in OPTIONS; empty: none is listed."""
    names = [argument.partition("=")[0] for argument in arguments]
    names = [name if name.startswith("--") else name[:2] for name in names]
    known = [f"{name} (here: {OPTIONS[name]})" for name in dict.fromkeys(names) if name in OPTIONS]
    return ", ".join(known)


def unread() -> str:
    """One sentence on variables and files that gunicorn or uvicorn would read at the start, and
    that are ignored here; empty: there are none."""
    found = sorted(name for name in os.environ if name.startswith("UVICORN_"))
    if os.environ.get("GUNICORN_CMD_ARGS"):
        found.append("GUNICORN_CMD_ARGS")
    if Path("gunicorn.conf.py").is_file():
        found.append("gunicorn.conf.py")
    if not found:
        return ""
    names = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
    return f"ignored, give the options on the command line: {names}"
