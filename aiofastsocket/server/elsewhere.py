"""Options, variables and files of gunicorn and uvicorn that are not known here: what does the same,
for an error or a line at the start. docs/gunicorn.md and docs/uvicorn.md are the pages on it.

A test asks both servers for their options: each is one of ours, or stands here.
"""

import os
from collections.abc import Iterable
from pathlib import Path

_OWN_LISTENERS = "every worker has a listener of its own, and needs no option for it"
_LOGGING = "--log-config, a configuration of Python's logging"
_HTTP_1 = "HTTP/1.1 is all that is served; a proxy in front speaks HTTP/2"
_STRICT = "requests are read strictly, and that cannot be changed"
_STATS = "--metrics tells Prometheus, aiofastsocket stats --json everybody"

# By option: the option to use here, or a sentence for want of one.
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
    "--reload-engine": "leave it out: --reload is told by the kernel",
    "--reload-extra-file": "--reload-dir and --reload-include",
    "--spew": "leave it out: a tracer or profiler of Python's does that",
    "--no-sendfile": "leave it out: only http.response.pathsend uses sendfile(2)",
    "--reuse-port": f"leave it out: {_OWN_LISTENERS}",
    "--chdir": "--app-dir",
    "-D": "leave it out: systemd runs it, or the shell with & and --pid-file",
    "--daemon": "leave it out: systemd runs it, or the shell with & and --pid-file",
    "-e": "set it for the command: env NAME=VALUE aiofastsocket serve",
    "--env": "set it for the command: env NAME=VALUE aiofastsocket serve",
    "-p": "--pid-file",
    "--pid": "--pid-file",
    "--worker-tmp-dir": "leave it out: workers write no files to show that they live",
    "-u": "--user",
    "-g": "--group",
    "-m": "set it for the command: umask 027; aiofastsocket serve",
    "--umask": "set it for the command: umask 027; aiofastsocket serve",
    "--initgroups": "leave it out: --user gives the user's groups too",
    "--access-logfile": "--access-log-file; without it lines go to standard output",
    "--access-logformat": "--access-log-format",
    "--error-logfile": "--log-file",
    "--capture-output": "leave it out: what a program prints goes to its standard streams",
    "--logger-class": _LOGGING,
    "--log-config-json": "--log-config",
    "--log-syslog": _LOGGING,
    "--log-syslog-to": _LOGGING,
    "--log-syslog-prefix": _LOGGING,
    "--log-syslog-facility": _LOGGING,
    "--disable-redirect-access-to-syslog": _LOGGING,
    "-R": "leave it out: workers have the standard streams of the start",
    "--enable-stdio-inheritance": "leave it out: workers have the standard streams of the start",
    "--statsd-host": _STATS,
    "--dogstatsd-tags": _STATS,
    "--statsd-prefix": _STATS,
    "--enable-backlog-metric": _STATS,
    "-n": "leave it out: a process is known by its command line",
    "--name": "leave it out: a process is known by its command line",
    "--pythonpath": "--app-dir",
    "--paste": "name a module that calls paste.deploy.loadapp",
    "--paster": "name a module that calls paste.deploy.loadapp",
    "--paste-global": "name a module that calls paste.deploy.loadapp",
    "--proxy-allow-from": "--forwarded-allow-ips",
    "--protocol": "HTTP is all that is served; the uwsgi protocol is not",
    "--uwsgi-allow-from": "HTTP is all that is served; the uwsgi protocol is not",
    "--keyfile": "--ssl-keyfile",
    "--certfile": "--ssl-certfile",
    "--ssl-version": "--ssl-min-version; TLS 1.2 and 1.3 are spoken",
    "--cert-reqs": "--ssl-cert-reqs",
    "--ca-certs": "--ssl-ca-certs",
    "--suppress-ragged-eofs": "leave it out: a client that leaves so is no error",
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
    "--header-map": "leave it out: fields are passed on under the names that clients give",
    "--asgi-loop": "--loop",
    "--asgi-lifespan": "--lifespan",
    "--asgi-disconnect-grace-period": "--timeout-disconnect",
    "--websocket-max-message-size": "--ws-max-size",
    "--http-parser": "leave it out: there is one",
    "--dirty-app": "a pool of processes is the program's own: concurrent.futures has one",
    "--dirty-workers": "a pool of processes is the program's own: concurrent.futures has one",
    "--dirty-timeout": "a pool of processes is the program's own: concurrent.futures has one",
    "--dirty-threads": "a pool of processes is the program's own: concurrent.futures has one",
    "--dirty-graceful-timeout": "a pool of processes is the program's own: concurrent.futures",
    "--control-socket": "signals control it; aiofastsocket stats shows it",
    "--control-socket-mode": "signals control it; aiofastsocket stats shows it",
    "--no-control-socket": "leave it out: there is no such socket",
    # uvicorn
    "--http2": _HTTP_1,
    "--ws-max-queue": "leave it out: a client is read only as fast as the application receives",
    "--use-colors": "leave it out: the log has no colors",
    "--no-use-colors": "leave it out: the log has no colors",
    "--timeout-worker-healthcheck": "--timeout-worker",
    "--h11-max-incomplete-event-size": "--limit-request-head",
    "--reset-contextvars": "leave it out: each connection has a context of its own",
}


def said_of(arguments: Iterable[str]) -> str:
    """One sentence on those of these unknown arguments that stand in OPTIONS; empty: none does."""
    names = [argument.partition("=")[0] for argument in arguments]
    names = [name if name.startswith("--") else name[:2] for name in names]
    known = [f"{name} (here: {OPTIONS[name]})" for name in dict.fromkeys(names) if name in OPTIONS]
    return ", ".join(known)


def unread() -> str:
    """One sentence on what gunicorn or uvicorn would read at their start, and nobody does here;
    empty: there is nothing."""
    found = sorted(name for name in os.environ if name.startswith("UVICORN_"))
    if os.environ.get("GUNICORN_CMD_ARGS"):
        found.append("GUNICORN_CMD_ARGS")
    if Path("gunicorn.conf.py").is_file():
        found.append("gunicorn.conf.py")
    if not found:
        return ""
    names = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
    return f"not read here, give options on the command line: {names}"
