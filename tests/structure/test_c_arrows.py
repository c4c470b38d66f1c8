"""The architecture of native/core: calls run one way."""

import re
from pathlib import Path

NATIVE = Path(__file__).parents[2] / "native"

# A file may only call functions of files further right.
ORDER = """
    pump channel ops_device ops_reuseport ops_off pulse joined part compare record take make live
    claims table lock steering ledger slot bell steer steer_auto page options drain diag socket
    process poll http1 histogram shared proxy
"""

# The channel calls backends, each of which is a table of functions. A listen table calls back the
# channel whose backend accepts for it.
CIRCLES = {("table", "channel")}

DEFINED = re.compile(r"^(?!static)[a-z][\w *]*?[ *](\w+)\((?:[^;{]|\n)*?\)\n\{", re.MULTILINE)


def test_calls_run_one_way() -> None:
    texts = {path.stem: path.read_text() for path in (NATIVE / "core").glob("*.c")}
    order = ORDER.split()
    assert set(texts) == set(order)
    home = {name: file for file, text in texts.items() for name in DEFINED.findall(text)}
    assert len(home) > 100
    for file, text in texts.items():
        for name in set(re.findall(r"\b(\w+)\(", text)) & home.keys():
            if home[name] != file and (file, home[name]) not in CIRCLES:
                assert order.index(file) < order.index(home[name]), f"{file}.c calls {name}"


def test_one_place_of_the_library_knows_the_device() -> None:
    asking = {
        path.name
        for path in (NATIVE / "shim").glob("*.c")
        if re.search(r"fs_channel_|FS_BACKEND_(DEVICE|REUSEPORT)", path.read_text())
    }
    assert asking == {"backend.c"}
