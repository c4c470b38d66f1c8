"""aiofastsocket: a local listening socket for every worker, for asyncio, on stock Linux.

This file re-exports; each name lives in the module it is imported from.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .channel import Channel
from .errors import FastsocketError, SetupError, UsageError
from .listeners import ListenTable, SlotInfo, TableInfo, tables_of
from .loop import new_event_loop, run
from .selector import FastsocketSelector
from .table.part import LocalListener

if TYPE_CHECKING:
    from . import serve
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
    if name == "serve":
        return importlib.import_module(".serve", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
