"""Applications that fail a request: the line in the log, and the response to the client."""

import asyncio
import logging

from ..._native.exchange import Exchange
from ..._native.handshake import Handshake
from ...errors import ClientDisconnected

logger = logging.getLogger("aiofastsocket")

_RESTART, _INTERNAL_ERROR, _NORMAL = 1012, 1011, 1000  # RFC 6455, 7.4.1


def has_left(error: BaseException | None) -> bool:
    """Whether an application's error is the result of a client that is gone."""
    seen = set()  # `raise error from error` makes a cycle; not all errors can be hashed
    while error is not None and id(error) not in seen:
        if isinstance(error, ClientDisconnected):
            return True
        if isinstance(error, BaseExceptionGroup) and all(map(has_left, error.exceptions)):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def let_go(error: BaseException) -> None:
    """Free the objects that the frames of an unreported error hold, such as generators whose
    `finally` must run. An error that went through a frame with itself in a local, as in task
    groups, is a cycle that only the garbage collector would find."""
    seen, left = set[int](), [error]
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            left += [other for other in (one.__context__, one.__cause__) if other is not None]
            if isinstance(one, BaseExceptionGroup):
                left += one.exceptions


def request_ended(request: Exchange, error: BaseException | None, *, cancelled: bool) -> None:
    """Handle an application that raised an error in a request, or returned too early. cancelled:
    the server cancelled the request; without it, a CancelledError comes from something that the
    application awaits. Raises the error that the task must raise."""
    if error is None:
        if request.has_hung_up:
            request.cut_off()
            return
        begun = request.state == "begun"
        what = "before its response was complete" if begun else "without a response"
        logger.error("the application returned %s: %s", what, _name(request))
    elif cancelled and isinstance(error, asyncio.CancelledError):
        if request.state != "complete":
            request.cut_off()
        raise error
    elif request.has_hung_up and has_left(error):
        let_go(error)
        if not request.has_left:
            request.cut_off()
        return
    else:
        logger.error("exception in the application: %s", _name(request), exc_info=error)
    if request.state == "begun":
        request.cut_off()
    elif request.state == "untouched" and not request.has_left:
        request.refuse(500)


def websocket_ended(request: Handshake, error: BaseException | None, *, cancelled: bool) -> None:
    """Handle an application that raised an error on a WebSocket, or returned. cancelled: as for
    request_ended."""
    name = request.raw_path.decode("latin-1")
    if error is None:
        if not request.is_answered:
            logger.error("the application returned without an answer: WebSocket %s", name)
        request.over(_NORMAL, 500)
    elif cancelled and isinstance(error, asyncio.CancelledError):
        request.over(_RESTART, 503)
        raise error
    elif request.is_over and has_left(error):
        let_go(error)
    else:
        logger.error("exception in the application: WebSocket %s", name, exc_info=error)
        request.over(_INTERNAL_ERROR, 500)


def _name(request: Exchange) -> str:
    # The path as it was sent: decoded, it may have any characters, even line ends.
    return f"{request.method} {request.raw_path.decode('latin-1')}"
