"""The client of a request, as a proxy reports it: X-Forwarded-For, X-Forwarded-Proto.

These fields are used from trusted addresses only. Of several hops, the last one that is not trusted
is the client.
"""

from ipaddress import ip_address, ip_network
from typing import Any

from ...errors import UsageError
from .access import Address

Headers = list[tuple[bytes, bytes]]


class Proxies:
    """The trusted proxies. allowed: addresses and networks separated by commas, or "*" for all.
    Clients of a unix socket have no address, and are trusted with "*" only. Raises UsageError."""

    def __init__(self, allowed: str) -> None:
        self._all = allowed.strip() == "*"
        self._networks: list[Any] = []
        for text in [] if self._all else filter(None, map(str.strip, allowed.split(","))):
            try:
                self._networks.append(ip_network(text))
            except ValueError:
                raise UsageError(
                    f"--forwarded-allow-ips: {text!r} is neither an address nor a network (or *)"
                ) from None
        self._known: dict[str, bool] = {}

    def trusts(self, host: str) -> bool:
        """Whether the fields of this host are trusted."""
        if self._all:
            return True
        known = self._known.get(host)
        if known is None:
            if len(self._known) > 1000:
                self._known.clear()
            known = self._known[host] = self._look(host)
        return known

    def _look(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)

    def heed(self, headers: Headers, client: Address, scheme: str) -> tuple[Address, str]:
        """The client and the scheme of a request."""
        if not (self._all if client is None else self.trusts(client[0])):
            return client, scheme
        hops: list[str] = []
        for name, value in headers:
            if name == b"x-forwarded-for":
                hops += value.decode("latin-1").split(",")
            elif name == b"x-forwarded-proto":
                said = value.decode("latin-1").strip().lower()
                if said in ("http", "https", "ws", "wss"):
                    scheme = said.replace("ws", "http")
        # The nearest proxy added the last hop. If all hosts are trusted, the first hop counts.
        for hop in hops[:1] if self._all else reversed(hops):
            address = _address(hop.strip())
            if address is None:
                break
            client = address
            if not self.trusts(address[0]):
                break
        return client, scheme


def _address(hop: str) -> tuple[str, int] | None:
    """Host and port; the port, which only some proxies write, is 0 if it is missing."""
    host, port = hop, ""
    if hop.startswith("["):
        host, _, port = hop[1:].partition("]")
        port = port.removeprefix(":")
    elif hop.count(":") == 1:
        host, _, port = hop.partition(":")
    if "%" in host:  # an IPv6 scope may be any text
        return None
    try:
        known = port.isascii() and port.isdecimal() and len(port) <= 5
        return str(ip_address(host)), int(port) if known else 0
    except ValueError:
        return None
