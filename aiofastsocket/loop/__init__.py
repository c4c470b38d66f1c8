"""The asyncio loops: `new_event_loop`, `run`, and the two classes behind them.

UvloopLoop is loaded only on demand: programs on the asyncio loop do not need uvloop.
"""

from typing import TYPE_CHECKING, Any

from .factory import new_event_loop, run
from .on_asyncio import SelectorLoop

if TYPE_CHECKING:
    from .on_uvloop import UvloopLoop

__all__ = ["SelectorLoop", "UvloopLoop", "new_event_loop", "run"]


def __getattr__(name: str) -> Any:
    if name == "UvloopLoop":
        from .on_uvloop import UvloopLoop

        return UvloopLoop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
