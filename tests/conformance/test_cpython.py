"""CPython's own tests of asyncio's loop, run on our loops."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUNNER = Path(__file__).parents[1] / "support" / "cpython.py"

# Tests that fail because our loops differ from asyncio's, with the reason.
DEVIATIONS = {
    "test_create_server_reuse_port": "a listener with local listeners has SO_REUSEPORT set",
    "test_create_server_multiple_hosts_ipv4": "its sockets are mocks: there is none to listen on",
    "test_create_server_multiple_hosts_ipv6": "its sockets are mocks: there is none to listen on",
}

# On our loop on uvloop, TLS clients are uvloop's: these tests fail on uvloop itself, too.
UVLOOPS = {
    "test_flush_before_shutdown": "it asks for a private name of asyncio's transport",
    "test_remote_shutdown_receives_trailing_data": "its client does not tell what comes last",
    "test_shutdown_timeout_handler_not_set": "the same",
}

# Test case -> the least number of listen tables that it makes: tables prove that the loop is ours.
# No test of test_sock_lowlevel makes a server.
CASES = {
    "test_events.EPollEventLoopTests": 8,
    "test_server.SelectorStartServerTests": 1,
    "test_sock_lowlevel.EPollEventLoopTests": 0,
    "test_streams.StreamTests": 2,
    "test_sendfile.EPollEventLoopTests": 10,
    # Newer tests state the memory that they need, and are skipped unless it is given.
    "test_ssl.TestSSL": 1 if sys.version_info >= (3, 14) else 3,
    "test_sslproto.SelectorStartTLSTests": 1,
    "test_selectors.EpollSelectorTestCase": 0,
}
if sys.version_info >= (3, 12):
    CASES["test_server.TestServer2"] = 1


def outcome(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, RUNNER, *arguments], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_cpythons_own(name: str) -> None:
    if importlib.util.find_spec("test.test_asyncio") is None:
        pytest.skip("this Python was installed without its own tests")
    result = outcome(name, "asyncio")
    bad = {test: text for test, text in result["bad"].items() if test not in DEVIATIONS}
    assert not bad, "\n".join(bad.values())
    assert result["run"] >= 2
    if name != "test_selectors.EpollSelectorTestCase":
        assert result["loops"] >= result["run"] - len(result["skipped"])
    assert result["tables"] >= CASES[name]
    # A test that no longer fails must leave DEVIATIONS.
    if name.startswith("test_events."):
        assert result["bad"].keys() == DEVIATIONS.keys()


@pytest.mark.long  # deviating tests wait for events that do not come
@pytest.mark.parametrize(
    ("name", "only", "fewest"),
    [
        ("test_ssl.TestSSL", "*", 1 if sys.version_info >= (3, 14) else 20),
        ("test_sslproto.SelectorStartTLSTests", "*server*", 1),
    ],
)
def test_cpythons_own_tls_on_uvloop(name: str, only: str, fewest: int) -> None:
    if importlib.util.find_spec("test.test_asyncio") is None:
        pytest.skip("this Python was installed without its own tests")
    result = outcome(name, "uvloop", "-k", only)
    bad = {test: text for test, text in result["bad"].items() if test not in UVLOOPS}
    assert not bad, "\n".join(bad.values())
    assert result["run"] >= fewest
    assert result["tables"] >= 1
