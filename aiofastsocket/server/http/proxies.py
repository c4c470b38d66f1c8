"""Who a request comes from, when a proxy says it: X-Forwarded-For, X-Forwarded-Proto.

Only believed from addresses that are trusted; of several hops the last that is not trusted counts.
"""

from ipaddress import ip_address, ip_network
from typing import Any

from ...errors import UsageError
from .scope import Address, Headers


class Proxies:
    """allowed: addresses and networks with commas between, or "*" for all; a unix socket's clients
    have no address, and are trusted with "*" only. Raises UsageError."""

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
        """Whether what this host says of others is believed."""
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
        # The last was added by the nearest proxy. Who believes everybody believes the first.
        for hop in hops[:1] if self._all else reversed(hops):
            host = _host(hop.strip())
            if host is None:
                break
            client = host, 0
            if not self.trusts(host):
                break
        return client, scheme


def _host(hop: str) -> str | None:
    """An address, that some proxies write with its port."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    if "%" in hop:  # a scope's name may be any text
        return None
    try:
        return str(ip_address(hop))
    except ValueError:
        return None
