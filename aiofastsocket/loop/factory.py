"""Make an event loop by its name, and run a coroutine on it."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from ..choices import LOOPS, check_word

T = TypeVar("T")


def new_event_loop(
    loop: str = "uvloop",
    *,
    backend: str | None = None,
    steer: str = "auto",
    slots: int | None = None,
) -> asyncio.AbstractEventLoop:
    """A new event loop whose TCP servers have a local listener in every process that serves them.

    Without arguments it is a loop factory: `asyncio.Runner(loop_factory=new_event_loop)`.

    Args:
        loop: "uvloop", or "asyncio" for asyncio.SelectorEventLoop on FastsocketSelector.
        backend: "auto", "device", "reuseport" or "off"; None takes AIOFASTSOCKET_BACKEND.
        steer: "auto", "cpu" or "spread".
        slots: local listeners of each address. None: two for each core, at least eight.

    Raises:
        UsageError: an unknown word, or an invalid number.
        SetupError: the backend is not available.
    """
    options: dict[str, Any] = {"backend": backend, "steer": steer, "slots": slots}
    check_word("loop", loop, LOOPS)
    if loop == "asyncio":
        from .on_asyncio import SelectorLoop

        return SelectorLoop(**options)
    from .on_uvloop import UvloopLoop

    return UvloopLoop(**options)


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    loop: str = "uvloop",
    backend: str | None = None,
    steer: str = "auto",
    slots: int | None = None,
) -> T:
    """Run a coroutine as asyncio.run does, on a `new_event_loop` with these options."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        main.close()
        raise RuntimeError("aiofastsocket.run() cannot be called from a running event loop")
    factory = partial(new_event_loop, loop, backend=backend, steer=steer, slots=slots)
    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        return runner.run(main)
