"""The compiled transports. Not loaded with the cffi library: only loops need them, and asyncio."""

from ._transport import Connections, Pump, Transport

__all__ = ["Connections", "Pump", "Transport"]
