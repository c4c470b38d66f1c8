"""Where lines go: to standard error, or where a file of Python's logging.config says."""

import configparser
import json
import logging
import logging.config
from pathlib import Path

from ..errors import UsageError

FORMAT = "%(asctime)s [%(process)d] %(levelname)s %(message)s"


def configure(level: str, path: str | None) -> None:
    """Loggers: aiofastsocket, and with a file aiofastsocket.access, which is not below it then.

    Raises UsageError if the file is none.
    """
    logger = logging.getLogger("aiofastsocket")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())
    if path is None:
        return
    access = logging.getLogger("aiofastsocket.access")
    access.setLevel(logging.INFO)
    try:
        if path.endswith(".json"):
            logging.config.dictConfig(
                {"disable_existing_loggers": False, **json.loads(Path(path).read_text())}
            )
        elif path.endswith(".ini"):
            logging.config.fileConfig(path, disable_existing_loggers=False)
        else:
            raise UsageError(f"--log-config {path}: use a file that ends in .json or .ini")
    except OSError as error:
        raise UsageError(f"--log-config {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, configparser.Error, RuntimeError) as error:
        detail = f"{error}".splitlines()[0] if f"{error}" else type(error).__name__
        cause = f": {error.__cause__}" if error.__cause__ is not None else ""
        raise UsageError(f"--log-config {path}: {detail}{cause}") from None
