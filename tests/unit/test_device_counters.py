"""The counters in /proc/net/fastsocket, read and shown; tests/kernel tests the real module."""

import json
import os
from pathlib import Path

import pytest

from aiofastsocket.kernel import DeviceCore, device_cores
from aiofastsocket.stats import command as stats

SAYS = f"""address inode core live own global adopted queue owners
[::1]:80 501 - - 0 4 1 2 -
[::1]:80 501 0 1 10 3 0 0 {os.getpid()}
[::1]:80 501 1 0 7 0 5 6 -
127.0.0.1:8080 502 - - 0 0 0 0 -
"""


@pytest.fixture
def cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[DeviceCore]:
    path = tmp_path / "fastsocket"
    path.write_text(SAYS)
    found = device_cores(path)
    monkeypatch.setattr(stats, "device_cores", lambda: found)
    return found


def test_the_modules_lines_are_read(cores: list[DeviceCore]) -> None:
    assert cores[0] == DeviceCore("[::1]:80", 501, None, False, 0, 4, 1, 2, ())
    assert cores[1] == DeviceCore("[::1]:80", 501, 0, True, 10, 3, 0, 0, (os.getpid(),))
    assert [c.inode for c in cores] == [501, 501, 501, 502]


def test_device_counters_without_the_module(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        device_cores(tmp_path / "none")


def test_the_modules_counters_are_shown(cores: list[DeviceCore]) -> None:
    text = stats.as_text(stats.select("80")).splitlines()
    assert text[0] == "[::1]:80  on the device"
    assert text[1].split() == ["core", "owner", "own", "global", "adopted", "queue"]
    assert text[2].split()[-4:] == ["10", "3", "0", "0"]
    assert str(os.getpid()) in text[2]
    assert text[3].split() == ["1", "none", "7", "0", "5", "6"]
    last = "  5 accepted without a local listener; 2 waiting at the program's own socket"
    assert text[4:] == [last]


def test_by_address_and_for_machines(cores: list[DeviceCore]) -> None:
    assert stats.select("127.0.0.1:8080").devices.keys() == {502}
    (listener,) = json.loads(stats.as_json(stats.select("80")))
    assert (listener["address"], listener["backend"]) == ("[::1]:80", "device")
    assert [c["queue"] for c in listener["cores"]] == [2, 0, 6]
