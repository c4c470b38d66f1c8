"""FastsocketPolicy: for programs that choose their loop by asyncio's event loop policy.

This module is loaded only on demand: policies are deprecated since Python 3.14 and removed in 3.16.
Only `install` sets a policy.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import SetupError
from .loop import new_event_loop

GONE = (
    "this Python's asyncio has no event loop policies: use aiofastsocket.run(main()), or "
    "asyncio.run(main(), loop_factory=aiofastsocket.new_event_loop)"
)

if TYPE_CHECKING:
    from asyncio import DefaultEventLoopPolicy as _Base
else:
    # asyncio's private name since Python 3.14: access to the public name warns, and an import of
    # this module does not use a policy.
    _Base = getattr(
        asyncio.unix_events, "_DefaultEventLoopPolicy", vars(asyncio).get("DefaultEventLoopPolicy")
    )

if _Base is not None:

    class FastsocketPolicy(_Base):
        """asyncio's default policy, with loops and arguments of `new_event_loop`."""

        def __init__(self, loop: str = "uvloop", **options: Any) -> None:
            super().__init__()
            new_event_loop(loop, **options).close()  # raises for a mistake now, not at first use
            self._make = partial(new_event_loop, loop, **options)

        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            """A new loop: see aiofastsocket.new_event_loop."""
            return self._make()

else:

    class FastsocketPolicy:  # type: ignore[no-redef]
        """Raises SetupError: this Python's asyncio has no policies."""

        def __init__(self, *_: Any, **__: Any) -> None:
            raise SetupError(GONE)


def install(loop: str = "uvloop", **options: Any) -> None:
    """Set a FastsocketPolicy for this process, with the arguments of `new_event_loop`.

    Raises SetupError where asyncio has no policies (Python 3.16).
    """
    policy = FastsocketPolicy(loop, **options)
    asyncio.set_event_loop_policy(policy)
