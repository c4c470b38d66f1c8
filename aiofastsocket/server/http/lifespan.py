"""The application's start and end (ASGI lifespan, 2.0)."""

import asyncio
import logging
import traceback
from typing import Any

from ...errors import SetupError

logger = logging.getLogger("aiofastsocket")

Message = dict[str, Any]


class Lifespan:
    """The lifespan of an application. mode: "on": the application must support the protocol;
    "auto": it may support it; "off": the protocol is not used.

    The application puts data for its requests into `state`. says: whether to log that the
    application has no lifespan, which one worker does for all.
    """

    def __init__(self, app: Any, mode: str, state: dict[str, Any], *, says: bool = True) -> None:
        self._app = app
        self._mode = mode
        self._state = state
        self._says = says
        self._task: asyncio.Task[None] | None = None
        self._in: asyncio.Queue[Message] = asyncio.Queue()
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failure: str | None = None
        self._error: BaseException | None = None
        self._answered = False

    async def startup(self) -> None:
        """Wait until the application has started. Raises SetupError with the application's
        message."""
        if self._mode == "off":
            return
        self._task = asyncio.create_task(self._run())
        await self._in.put({"type": "lifespan.startup"})
        await self._started.wait()
        if self._failure is not None:
            raise SetupError(f"the application's startup failed: {self._failure}".rstrip(" :"))
        if self._error is not None and not self._answered:
            if self._mode == "on":
                raise SetupError(
                    "the application's startup failed:\n"
                    + "".join(traceback.format_exception(self._error)).rstrip()
                )
            self._task = None
            if self._says:
                logger.info("the application has no lifespan (startup raised %r)", self._error)

    async def shutdown(self) -> None:
        """Wait until the application has ended; log a failure."""
        if self._task is None:
            return
        self._failure = None
        await self._in.put({"type": "lifespan.shutdown"})
        await self._stopped.wait()
        if self._failure is not None:
            logger.error("the application's shutdown failed: %s", self._failure)

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        try:
            await self._app(scope, self._in.get, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._error = error
            if self._answered and self._failure is None:
                logger.exception("exception in the application's lifespan")
        finally:
            self._started.set()
            self._stopped.set()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind not in (
            "lifespan.startup.complete",
            "lifespan.startup.failed",
            "lifespan.shutdown.complete",
            "lifespan.shutdown.failed",
        ):
            raise RuntimeError(f"{kind!r} is not a lifespan message")
        self._answered = True
        if kind.endswith("failed"):
            self._failure = message.get("message", "")
        if kind.startswith("lifespan.startup"):
            self._started.set()
        else:
            self._stopped.set()
