"""Compressed WebSocket messages (RFC 7692), by the extension of the package websockets."""

from collections.abc import Sequence
from typing import Any

from websockets.exceptions import NegotiationError, PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.headers import build_extension, parse_extension


class Deflate:
    """The compression of one connection, as both sides have agreed: each message by itself. The
    memory of zlib for a message (some hundred KiB by default) is free between messages, so that
    idle sockets cost nothing."""

    def __init__(self, extension: Any) -> None:
        self._extension = extension

    def encode(self, data: bytes) -> bytes:
        """Compress a whole message."""
        try:
            return bytes(self._extension.encode(Frame(Opcode.BINARY, data)).data)
        finally:
            self._extension.encoder = None

    def decode(self, data: bytes, most: int) -> bytes | None:
        """Decompress a whole message; None: it has more than `most` bytes. Raises ValueError."""
        frame = Frame(Opcode.BINARY, data, rsv1=True)
        try:
            return bytes(self._extension.decode(frame, max_size=most).data)
        except PayloadTooBig:
            return None
        except ProtocolError as error:
            raise ValueError(str(error)) from None
        finally:
            self._extension.decoder = None


class DeflateOffer:
    """The compression that the server agrees to. window: as a power of two; level: zlib's."""

    def __init__(self, window: int, level: int) -> None:
        self._factory = ServerPerMessageDeflateFactory(
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            server_max_window_bits=window,
            client_max_window_bits=window,
            compress_settings={"level": level, "memLevel": max(1, window - 7)},
        )

    def agree(self, offers: Sequence[str]) -> tuple[bytes | None, Deflate | None]:
        """Accept the first possible offer of a client (values of Sec-WebSocket-Extensions): the
        answer, and the compression; None, None: no offer is possible."""
        for offer in offers:
            try:
                extensions = parse_extension(offer)
            except Exception:  # not a list of extensions: agree on none
                return None, None
            for name, parameters in extensions:
                if name != self._factory.name:
                    continue
                try:
                    agreed, extension = self._factory.process_request_params(parameters, [])
                except NegotiationError:
                    continue
                return build_extension([(name, agreed)]).encode(), Deflate(extension)
        return None, None
