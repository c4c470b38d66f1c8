"""`aiofastsocket serve`: a supervisor and one worker a core, each on a slot of its own.

arguments: the command line, and the call from Python · sources: the environment, files · elsewhere:
other servers' options · options, kinds: the table of options, and what their values may be ·
config: what was asked for · bind: addresses and their tables · tls: what was asked for of it ·
certificates: files and contexts · target: the program to serve · program: what a worker runs of it
· http: HTTP and WebSocket · worker: one process that serves · pages: what each has done · child:
how its parent has it · supervisor: that parent · hooks: the user's functions · forked, privileges:
how its children begin · looks: what it looks at again and again · late: workers that could not keep
up · worn: those that are too large or too old · metrics: what Prometheus is told · summary: what it
says · reload: who watches the program's files · demo: what is served without a target · logs,
lines: where lines go, and that nobody waits for it · machine: cores and cgroup · systemd: its
protocols · signals: which are acted on · pidfile: who runs · stuck: what a worker that hangs was
doing · run: all of it together.
"""

from typing import Any

from ..errors import FastsocketError, told
from ..streams import fill_standard_streams


def serve(app: Any, **options: Any) -> None:
    """Serve an application until a signal stops the service.

    Call it where the program starts, before it starts threads: workers are forked.

    Args:
        app: "module:attribute", or the application itself.
        options: those of the command line, by their long names with `_` for `-`:
            `serve(app, port=8000, workers=2)`. Options that may be repeated take a list
            (`bind=`, `reload_dirs=`, and `headers=`, of pairs); `log_config=` may be a dict.

    Raises:
        SystemExit: the service cannot start; a line on standard error says why. The exit code is
            the command's.
    """
    from . import arguments, run

    fill_standard_streams()
    try:
        code = run.serve(*arguments.from_python(app, options))
    except (FastsocketError, OSError) as error:
        code = told("serve", error)
    if code:
        raise SystemExit(code)
