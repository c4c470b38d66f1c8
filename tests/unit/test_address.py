"""Addresses as the kernel writes them, and as a hostile page may have them."""

import socket
import struct

import pytest

from aiofastsocket.address import parse


def test_addresses_as_accept_writes_them() -> None:
    v4 = (
        struct.pack("=H", socket.AF_INET) + struct.pack("!H", 80) + bytes([127, 0, 0, 1]) + bytes(8)
    )
    assert parse(v4) == ("127.0.0.1", 80)
    v6 = (
        struct.pack("=H", socket.AF_INET6)
        + struct.pack("!HI", 80, 0)
        + bytes(15)
        + b"\1"
        + bytes(4)
    )
    assert parse(v6) == ("::1", 80, 0, 0)
    assert parse(struct.pack("=H", socket.AF_UNIX) + b"/x") == ""


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, 0, 999])
def test_a_part_of_one_is_none(family: int) -> None:
    for length in range(15):
        assert parse((struct.pack("=H", family) + bytes(13))[:length]) == ""
