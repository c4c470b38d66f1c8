"""`aiofastsocket serve`: a supervisor and one worker per core, each on its own slot.

arguments: options from the command line and from Python · sources: options from the environment and
from files · elsewhere: options of other servers · options, kinds: the table of options, and the
kinds of their values · config: the checked configuration · bind: addresses and their tables · tls:
the options of TLS · certificates: files and contexts · target: the program to serve · program: the
target as a worker runs it · http: HTTP and WebSocket · worker: one process that serves · pages: the
counters of each worker · child: a worker as its supervisor sees it · tables: the supervisor's
listen tables · supervisor: the parent of the workers · hooks: the user's functions · forked,
privileges: how child processes begin · looks: periodic checks · late: workers that could not keep
up · worn: workers that are too large, too old, or hang · metrics: metrics for Prometheus · summary:
the log line at the start · reload: the watcher of the program's files · demo: the program that is
served without a target · logs, lines: destinations of log lines, written without waiting for
readers · machine: cores and cgroup · systemd: systemd's protocols · signals: signals with and
without effect · pidfile: the file with the supervisor's process id · stuck: stacks and requests of
a worker that hangs · run: the whole service.
"""

from typing import Any

from ..errors import FastsocketError, told
from ..streams import fill_standard_streams


def serve(app: Any, **options: Any) -> None:
    """Serve an application until a signal stops the service.

    Call it where the program starts, before it starts threads, because workers are forked.

    Args:
        app: "module:attribute", or the application itself.
        options: The options of the command line, by their long names with `_` for `-`:
            `serve(app, port=8000, workers=2)`. Options that may be repeated take a list
            (`bind=`, `reload_dirs=`, and `headers=`, a list of pairs); `log_config=` may be a dict.

    Raises:
        SystemExit: The service cannot start. A line on standard error gives the reason. The exit
            code is that of the command.
    """
    from . import arguments, run

    fill_standard_streams()
    try:
        code = run.serve(*arguments.from_python(app, options))
    except (FastsocketError, OSError) as error:
        code = told("serve", error)
    if code:
        raise SystemExit(code)
