"""aiofastsocket: a local listening socket for every worker, for asyncio, on stock Linux.

This file only re-exports names. Each lives in the module that it is imported from.
"""

from typing import TYPE_CHECKING, Any

from .channel import Channel
from .errors import FastsocketError, SetupError, UsageError
from .loop import new_event_loop, run
from .loop.selector import FastsocketSelector
from .server import serve
from .table.part import LocalListener
from .table.table import ListenTable
from .table.view import SlotInfo, TableInfo, tables_of

if TYPE_CHECKING:
    from .policy import FastsocketPolicy, install

__all__ = [
    "Channel",
    "FastsocketError",
    "FastsocketPolicy",
    "FastsocketSelector",
    "ListenTable",
    "LocalListener",
    "SetupError",
    "SlotInfo",
    "TableInfo",
    "UsageError",
    "install",
    "new_event_loop",
    "run",
    "serve",
    "tables_of",
]


def __getattr__(name: str) -> Any:
    if name in ("FastsocketPolicy", "install"):
        from . import policy

        return getattr(policy, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
