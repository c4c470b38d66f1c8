"""aiofastsocket: a local listening socket for every worker, for asyncio, on stock Linux.

This file re-exports; each name lives in the module it is imported from.
"""

from .channel import Channel
from .errors import FastsocketError, SetupError, UsageError
from .listeners import ListenTable, SlotInfo, TableInfo, tables_of

__all__ = [
    "Channel",
    "FastsocketError",
    "ListenTable",
    "SetupError",
    "SlotInfo",
    "TableInfo",
    "UsageError",
    "tables_of",
]
