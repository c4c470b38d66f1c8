"""Draw results: one SVG for each scenario, and README's picture. Run this in the `report`
environment, which has matplotlib:

    python plots.py FOLDER

On the left is the compared metric: bars are medians, dots are single measurements. On the right is
latency.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator
from scenarios import SCENARIOS, Scenario

_LABELS = {
    "cpu_us": "CPU µs per {unit}",
    "memory": "bytes per idle connection",
    "delayed": "share delayed by more than 10 ms",
}
_PERCENTILES = (("p50", "p50", "o"), ("p99", "p99", "D"), ("p999", "p99.9", ">"))
_OURS, _PEER = "#1f77b4", "#9a9a9a"


def _bars(axes: Any, scenario: Scenario, values: dict[str, list[float]], metric: str) -> None:
    for y, (server, figures) in enumerate(values.items()):
        ours = server.startswith(("ours", "shim"))
        axes.barh(y, statistics.median(figures), height=0.6, color=_OURS if ours else _PEER)
        axes.plot(figures, [y] * len(figures), "o", color="black", markersize=2, alpha=0.6)
    axes.set_yticks(range(len(values)), list(values))
    axes.set_xlim(left=0)
    axes.set_xlabel(_LABELS[metric].format(unit=scenario.load.unit))


def _latencies(axes: Any, rows: list[dict[str, Any]], servers: list[str]) -> None:
    for percentile, name, marker in _PERCENTILES:
        if not all(percentile in row for row in rows):  # missing: too few requests
            continue
        figures = [[r[percentile] for r in rows if r["server"] == s] for s in servers]
        medians = [statistics.median(of_server) / 1000 for of_server in figures]
        axes.plot(medians, range(len(servers)), marker, markersize=5, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("latency, ms")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _draw(scenario: Scenario, rows: list[dict[str, Any]], file: Path) -> None:
    servers = [s.name for s in scenario.servers if any(r["server"] == s.name for r in rows)]
    metric = scenario.metrics[0]
    values = {s: [row[metric] for row in rows if row["server"] == s] for s in servers}
    figure, (left, right) = plt.subplots(
        *(1, 2),
        figsize=(9, 0.9 + 0.28 * len(servers)),
        width_ratios=(3, 2),
        sharey=True,
        layout="constrained",
    )
    _bars(left, scenario, values, metric)
    _latencies(right, rows, servers)
    left.invert_yaxis()
    figure.suptitle(scenario.title, fontsize=10)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


_PICTURED = ("ours", "peregrine", "h2corn", "granian", "uvicorn", "gunicorn")
_PICTURE = {
    "asgi-keep": "a request on a kept connection",
    "asgi-short": "a request on a connection of its own",
}


def _picture(results: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """CPU time of a small ASGI request: ours first, then the peers by their cost."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.1), layout="constrained")
    for side, (name, title) in zip(axes, _PICTURE.items(), strict=True):
        values: dict[str, float] = {}
        for server in _PICTURED:
            if own := [row["cpu_us"] for row in results[name] if row["server"] == server]:
                values["aiofastsocket" if server == "ours" else server] = statistics.median(own)
        names = sorted(values, key=lambda server: (server != "aiofastsocket", values[server]))
        colors = [_OURS if server == "aiofastsocket" else _PEER for server in names]
        bars = side.barh(names, [values[server] for server in names], height=0.7, color=colors)
        side.bar_label(bars, fmt="%.1f", padding=2)
        side.invert_yaxis()
        side.set_xlim(right=1.15 * max(values.values()))
        side.set_title(f"CPU µs of {title}" if name == "asgi-keep" else title, fontsize=9)
        side.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def main() -> None:
    folder = Path(sys.argv[1])
    # Text stays text, for small files. With a fixed salt, the same results make the same file.
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "", "font.size": 8})
    measured = json.loads((folder / "results.json").read_text())["scenarios"]
    results = {m["name"]: m["results"] for m in measured}
    for scenario in SCENARIOS:
        if results.get(scenario.name):
            _draw(scenario, results[scenario.name], folder / f"{scenario.name}.svg")
    if all(results.get(name) for name in _PICTURE):
        _picture(results, folder / "readme.svg")


if __name__ == "__main__":
    main()
