"""The `aiofastsocket` command: it parses its arguments and runs serve, exec or stats.

An error is one line. Exit codes: 0 the command ended as it was told to, 1 this machine or the
application prevents it, 2 the arguments are wrong.
"""

import argparse
import difflib
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .choices import BACKENDS, PINS, STEERINGS
from .completion import SHELLS, script
from .errors import FastsocketError, told
from .preload import LOG_LEVELS as PRELOAD_LOG_LEVELS
from .preload import execute, preload_path
from .server import arguments as serve_arguments
from .server import elsewhere
from .server.run import check, serve
from .stats.command import show
from .streams import fill_standard_streams


class _Parser(argparse.ArgumentParser):
    said_of: Callable[[list[str]], str] = staticmethod(lambda _: "")

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Report unknown arguments as an error of the command, not of the whole parser."""
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            said = self.said_of(rest) or " ".join(rest) + self._nearest(rest[0])
            self.error(f"unrecognized arguments: {said}")
        return known, rest

    def _nearest(self, argument: str) -> str:
        """The known option that an unknown one may stand for, as the end of a sentence."""
        name = argument.partition("=")[0]
        known = [flag for action in self._actions for flag in action.option_strings]
        found = difflib.get_close_matches(name, known, 1, 0.7) if name.startswith("--") else []
        return f"; did you mean {found[0]}?" if found else ""

    def error(self, message: str) -> NoReturn:
        """Print one line, without the whole usage, and exit with code 2."""
        if found := re.match(r"argument (\S+): ignored explicit argument", message):
            message = f"{found[1]} takes no value"
        self.exit(2, f"{self.prog}: error: {message}\n")


class _Version(argparse.Action):
    """Like argparse's version action, but it reads the package's metadata only for --version."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"aiofastsocket {version('aiofastsocket')}")
        parser.exit(0)


def _parser() -> _Parser:
    parser = _Parser(
        prog="aiofastsocket",
        description="Python servers with a local listening socket for every worker.",
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        dest=argparse.SUPPRESS,
        help="print the version and exit",
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    s = commands.add_parser(
        "serve",
        help="serve a Python program with one worker per core",
        usage="%(prog)s [options] [module:attr]",
        description="Serve a Python program on every core; each worker has its own listener.",
        epilog="Typical use: aiofastsocket serve app:app --host 0.0.0.0 --port 80. "
        "Signals: TERM stops gracefully, INT and QUIT stop at once; HUP replaces all workers with "
        "new ones that load the program's current code; TTIN adds a worker, TTOU removes one.",
    )
    s.said_of = elsewhere.said_of
    serve_arguments.add(s)
    _exec_arguments(commands)
    _stats_arguments(commands)
    commands.add_parser(
        "preload-path",
        help="print the path of libfsocket.so",
        description="Print the path of libfsocket.so, for example for "
        "LD_PRELOAD=$(aiofastsocket preload-path) nginx",
    )
    c = commands.add_parser(
        "completion",
        help="print the shell's script for completing commands and options",
        description="Print the shell's script for completing commands and options. bash: "
        'eval "$(aiofastsocket completion bash)"; fish: aiofastsocket completion fish | source',
    )
    c.add_argument("shell", choices=SHELLS, help="shell that runs the script")
    return parser


def _exec_arguments(commands: "argparse._SubParsersAction[_Parser]") -> None:
    e = commands.add_parser(
        "exec",
        help="run nginx, HAProxy or any epoll server with a local listener for every worker",
        usage="%(prog)s [options] -- program [arguments]",
        description="Run an unmodified epoll server with libfsocket.so preloaded.",
    )
    e.add_argument(
        "--backend",
        choices=BACKENDS,
        help="kernel interface; auto: the device if its module is loaded, else reuseport (auto)",
    )
    e.add_argument(
        "--steer",
        choices=STEERINGS,
        help="destination of new connections; cpu: the worker of the core that received them; "
        "spread: all workers evenly; auto: the mode that suits the network cards (auto)",
    )
    e.add_argument(
        "--pin",
        choices=PINS,
        help="pin each worker to the core of its slot; auto: while steering is cpu; off: the "
        "program chooses its cores (off)",
    )
    e.add_argument(
        "--slots",
        type=int,
        metavar="N",
        help="local listeners per address; at most this number of workers have one (2 per core, "
        "at least 8)",
    )
    e.add_argument(
        "--defer-accept",
        action="store_true",
        help="accept a connection only after its first bytes arrive; for protocols in which the "
        "client sends first",
    )
    e.add_argument(
        "--ports",
        metavar="LIST",
        help="serve only listeners on these ports, for example 80,443,8000-8100 (all)",
    )
    e.add_argument(
        "--log-level",
        choices=PRELOAD_LOG_LEVELS,
        help="lowest level of lines that are logged (error)",
    )
    e.add_argument(
        "--log-file",
        metavar="FILE",
        help="write the library's log to this file, given by its full path (standard error)",
    )
    e.add_argument("--log", help=argparse.SUPPRESS)  # until 0.1: LEVEL[:FILE]
    e.add_argument("program", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _stats_arguments(commands: "argparse._SubParsersAction[_Parser]") -> None:
    t = commands.add_parser(
        "stats",
        help="show accepted and waiting connections of each listener and worker",
        description="Show the listeners and slots of running programs: of `serve`, of programs "
        "under `exec`, and of programs on aiofastsocket's loops.",
    )
    t.add_argument(
        "which",
        nargs="?",
        metavar="PID|port",
        help="process id, port or host:port to show (all that this user may inspect)",
    )
    t.add_argument("--watch", action="store_true", help="repeat every second until interrupted")
    t.add_argument("--json", action="store_true", dest="as_machine", help="print JSON")


def _is_for_serve(arguments: Sequence[str]) -> bool:
    """Whether they begin with a program or an option of `serve`, as those of other servers do."""
    first = arguments[0] if arguments else ""
    is_option = first.startswith("-") and first not in ("-h", "--help", "--version")
    return is_option or ":" in first or "." in first


def _renamed(arguments: Sequence[str]) -> list[str]:
    """Replace old names of `exec` options by current ones, and print a line on each old name."""
    rest = list(arguments)
    if rest[:1] != ["exec"]:
        return rest
    found = [rest.pop(0)]
    while rest and rest[0].startswith("-") and rest[0] != "--":
        option = rest.pop(0)
        found.append(option)
        if option == "--pin" and rest[:1] not in [[word] for word in PINS]:
            _old("--pin", "--pin on")
            found.append("on")
        elif option == "--log" or option.startswith("--log="):
            _old("--log", "--log-level and --log-file")
        if option in ("--defer-accept", "-h", "--help") or "=" in option or found[-1] != option:
            continue
        found += rest[:1]
        del rest[:1]
    return found + rest


def _old(name: str, now: str) -> None:
    print(f"aiofastsocket exec: {name} is an old name: write {now}", file=sys.stderr)


def _run(command: str, options: dict[str, Any]) -> int:
    if command == "exec":
        program = options.pop("program")
        level, _, file = (options.pop("log") or "").partition(":")  # until 0.1
        options["log_level"] = options["log_level"] or level or None
        options["log_file"] = options["log_file"] or file or None
        execute(program[1:] if program[:1] == ["--"] else program, **options)
    if command == "stats":
        return show(**options)
    if command == "completion":
        print(script(options["shell"], _parser()), end="")
        return 0
    if command == "preload-path":
        print(preload_path())
        return 0
    found, config = serve_arguments.from_command_line(options)
    if found.values["print_config"]:
        print("\n".join(found.lines()))
        return 0
    return check(config) if found.values["check_config"] else serve(config)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command's entry point."""
    fill_standard_streams()
    given = _renamed(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    if _is_for_serve(given):
        meant = shlex.join(["aiofastsocket", "serve", *given])
        parser.error(f"there is no command {given[0]!r}: did you mean {meant}")
    args = parser.parse_args(given)
    options = vars(args)
    command = options.pop("command")
    try:
        return _run(command, options)
    except (FastsocketError, OSError) as error:
        return told(command, error)
    except Exception:  # raised by a preloaded target: print its traceback once
        traceback.print_exc()
        return 1
