"""The page, the dashboard and the alerts agree with the metrics."""

import itertools
import json
import re
from pathlib import Path

from aiofastsocket.server.metrics.collect import BOUNDS, Service
from aiofastsocket.server.pages import Pages
from aiofastsocket.table.histogram import ENDS

ROOT = Path(__file__).parents[2]
OBSERVE = ROOT / "deploy" / "observe"
SUFFIXES = ("_bucket", "_total")


def names() -> set[str]:
    """All names of metrics, without Prometheus' suffixes. One exists only with a certificate."""
    pages = Pages(1)
    found = {metric.name for metric in Service(pages, [], {"version": "1"}).collect()}
    pages.close()
    return found | {"aiofastsocket_certificate_end_timestamp_seconds"}


def without(name: str) -> str:
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def test_each_metric_is_on_the_page() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    table = page[page.index("| metric |") : page.index("## Dashboard")]
    cells = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    told = {
        f"aiofastsocket_{without(name)}"
        for cell in cells
        for name in re.findall(r"`(\w+)(?:\{[\w,]*\})?`", cell)
    }
    assert told == names()


def test_what_is_drawn_and_watched_is_there() -> None:
    for path in OBSERVE.iterdir():
        text = path.read_text()
        used = set(re.findall(r"\baiofastsocket_(?!queue_p99)\w+", text))
        assert used or "aiofastsocket:queue_seconds:p99_1m" in text, path
        assert {without(name) for name in used} <= names(), path


def test_the_dashboard_is_one() -> None:
    board = json.loads((OBSERVE / "dashboard.json").read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids) >= 10
    drawn = " ".join(t["expr"] for panel in board["panels"] for t in panel["targets"])
    missing = {name for name in names() if name not in drawn}
    assert missing <= {
        f"aiofastsocket_{name}"
        for name in (
            *("info", "queue_limit", "connections_late", "log_lines_dropped", "websockets_opened"),
            *("certificate_end_timestamp_seconds", "host_listen_overflows"),
        )
    }


def test_bounds_of_histograms() -> None:
    """Bounds run from a tenth of a millisecond to minutes, in between in steps of a quarter."""
    ends = [ENDS[bound] for bound in BOUNDS]
    assert ends == sorted(set(ends))
    assert 0.0001 <= ends[0] < 0.0002
    assert ends[-1] > 60
    assert len(ends) < 80
    steps = [b / a for a, b in itertools.pairwise(ends) if a > 0.001 and b < 8]
    assert max(steps) < 1.26
