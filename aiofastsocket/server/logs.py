"""The destinations of log lines: the standard streams, files, or those in a configuration of
Python's logging."""

import configparser
import json
import logging
import logging.config
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import SetupError, UsageError
from .lines import FileLines, LineHandler, Lines

FORMAT = "%(asctime)s [%(process)d] %(levelname)s %(message)s"


_standard_output: Lines | None = None


_standard_error: Lines | None = None


def standard_error_fd() -> int:
    """The descriptor for output that does not come through Python's logging."""
    return 2 if _standard_error is None else _standard_error.fileno()


ACCESS = "aiofastsocket.access"
OF_UVICORN = {"aiofastsocket": "uvicorn.error", ACCESS: "uvicorn.access"}
"""The loggers for our lines if a configuration is made for uvicorn, and has none of our loggers."""


def standard_output() -> Lines | None:
    """The destination of the access log without a configuration of logging; None: standard output
    was closed when we started."""
    global _standard_output
    if _standard_output is None and sys.stdout is not None:
        _standard_output = Lines(1)
    return _standard_output


class Json(logging.Formatter):
    """Formats a line as a JSON object."""

    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said)


@dataclass(frozen=True)
class Files:
    """The files for lines instead of the standard streams, and the format. owner: user and group of
    new files."""

    log: str | None = None
    access: str | None = None
    json: bool = False
    owner: tuple[int, int] | None = None

    def open(self, option: str, path: str) -> FileLines:
        """Open a log file. Raises SetupError."""
        try:
            return FileLines(path, self.owner)
        except OSError as error:
            raise SetupError(f"{option} {path}: {error.strerror}") from None


def reopen(*, tells: bool = False) -> bool:
    """Open the log files again, after they have been renamed; return whether there are any. tells:
    log success, which only one of the processes does; all of them log failures."""
    files = [one for one in (_standard_error, _standard_output) if isinstance(one, FileLines)]
    logger = logging.getLogger("aiofastsocket")
    for one in files:
        try:
            one.reopen()
        except OSError as error:
            logger.error("log file %s cannot be reopened: %s", one.path, error.strerror)
        else:
            level = logging.INFO if tells else logging.DEBUG
            logger.log(level, "log file %s is reopened", one.path)
    return bool(files)


def configure(level: str, config: str | dict[str, Any] | None, files: Files) -> None:
    """Set up the logger aiofastsocket, and with a config, which has all destinations, the logger
    aiofastsocket.access.

    config: a file's path, or a dict for logging.config.dictConfig. Raises UsageError if it is
    invalid, SetupError if a file cannot be opened.
    """
    global _standard_error, _standard_output
    logger = logging.getLogger("aiofastsocket")
    logger.setLevel(level.upper())
    if config is None:
        # A stream that was closed when we started takes no lines.
        handler: logging.Handler = logging.NullHandler()
        if files.log is not None:
            _standard_error = files.open("--log-file", files.log)
        elif sys.stderr is not None:
            _standard_error = Lines(2)
        if _standard_error is not None:
            handler = LineHandler(_standard_error)
        handler.setFormatter(Json() if files.json else logging.Formatter(FORMAT))
        logger.handlers = [handler]
        logger.propagate = False
        if files.access is not None:
            _standard_output = files.open("--access-log-file", files.access)
        standard_output()  # now: workers may be another user without permission
        return
    access = logging.getLogger(ACCESS)
    access.setLevel(logging.INFO)
    try:
        if isinstance(config, str) and config.endswith(".ini"):
            logging.config.fileConfig(config, disable_existing_loggers=False)
        elif isinstance(config, str) and not config.endswith(".json"):
            raise UsageError(f"--log-config {config}: use a file that ends in .json or .ini")
        else:
            found: Any = json.loads(Path(config).read_text()) if isinstance(config, str) else config
            logging.config.dictConfig({"disable_existing_loggers": False, **found})
    except OSError as error:
        raise UsageError(f"--log-config {config}: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, configparser.Error, RuntimeError) as error:
        detail = f"{error}".splitlines()[0] if f"{error}" else type(error).__name__
        cause = f": {error.__cause__}" if error.__cause__ is not None else ""
        name = f" {config}" if isinstance(config, str) else ""
        raise UsageError(f"--log-config{name}: {detail}{cause}") from None
    _adopt(config)


def _adopt(config: str | dict[str, Any]) -> None:
    """Send lines to uvicorn's loggers if only those are configured; warn if none is configured."""
    silent = [ours for ours in OF_UVICORN if not logging.getLogger(ours).hasHandlers()]
    for ours in silent:
        logging.getLogger(ours).parent = logging.getLogger(OF_UVICORN[ours])
    if not logging.getLogger("aiofastsocket").hasHandlers():
        name = f" {config}" if isinstance(config, str) else ""
        print(
            f"aiofastsocket serve: --log-config{name}: neither aiofastsocket nor root is among its "
            "loggers: only warnings are shown, on standard error",
            file=sys.stderr,
        )


def as_uvicorn() -> bool:
    """Whether the access log goes to uvicorn.access, whose formatter needs separate arguments."""
    parent = logging.getLogger(ACCESS).parent
    return parent is not None and parent.name == OF_UVICORN[ACCESS]
