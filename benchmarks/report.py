"""Write measured results as Markdown: medians, ratios with their spread, aims.

A ratio is taken within one round, in which all servers met the same machine. The report shows the
median over the rounds, with the quartiles.
"""

import statistics
from collections.abc import Callable
from math import prod
from typing import Any

from scenarios import SCENARIOS, Aim, Scenario

Rows = list[dict[str, Any]]

# The client was the limit if its core was at least CLIENT_BUSY, and the server's below SERVER_FREE.
CLIENT_BUSY, SERVER_FREE = 0.95, 0.90
DISTURBED = 0.10

_FORMATS: dict[str, tuple[str, Callable[[float], str]]] = {
    "cpu_us": ("CPU µs per {unit}", lambda v: f"{v:.2f}"),
    "user_us": ("user", lambda v: f"{v:.2f}"),
    "system_us": ("system", lambda v: f"{v:.2f}"),
    "rate": ("{unit}s/s", lambda v: f"{v:,.0f}"),
    "p50": ("p50 ms", lambda v: f"{v / 1000:.2f}"),
    "p99": ("p99 ms", lambda v: f"{v / 1000:.2f}"),
    "p999": ("p99.9 ms", lambda v: f"{v / 1000:.2f}"),
    "memory": ("bytes per idle connection", lambda v: f"{v:,.0f}"),
    "delayed": ("delayed", lambda v: f"{v:.1%}"),
    "sleeps": ("sleeps per {unit}", lambda v: f"{v:.2f}"),
}


def _spread(values: list[float]) -> tuple[float, float, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def _of(rows: Rows, server: str) -> Rows:
    return [row for row in rows if row["server"] == server]


def _ratios(rows: Rows, over: tuple[str, ...], under: tuple[str, ...], metric: str) -> list[float]:
    """One ratio for each round in which all servers have a figure."""
    rounds: dict[int, dict[str, float]] = {}
    for row in rows:
        rounds.setdefault(row["round"], {})[row["server"]] = row[metric]
    complete = [r for r in rounds.values() if r.keys() >= {*over, *under}]
    return [
        prod(r[s] for s in over) / prod(r[s] for s in under)
        for r in complete
        if all(r[s] for s in under)
    ]


def _ratio_text(ratios: list[float]) -> str:
    if not ratios:
        return "-"
    middle, low, high = _spread(ratios)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _table(head: list[str], body: list[list[str]]) -> list[str]:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def _figures(scenario: Scenario, rows: Rows) -> list[str]:
    """The absolute figures, one line per server."""
    # p99.9 is missing where a round had too few requests.
    shown = [name for name in _FORMATS if all(name in row for row in rows)]
    shown = [name for name in shown if name != "delayed" or "delayed" in scenario.metrics]
    unit = scenario.load.unit
    head = ["", *(_FORMATS[name][0].format(unit=unit) for name in shown), "cores busy", "limit"]
    body = []
    for server in scenario.servers:
        own = _of(rows, server.name)
        if not own:
            continue
        cells = [server.name]
        for name in shown:
            middle, low, high = _spread([row[name] for row in own])
            text = _FORMATS[name][1]
            spread = f" ({text(low)} to {text(high)})" if name in scenario.metrics else ""
            cells.append(text(middle) + spread)
        server_core, client_core = _busy(own)
        cells.append(f"{server_core:.0%}, {client_core:.0%}")
        body.append([*cells, _limit(own)])
    return _table(head, body)


def _busy(own: Rows) -> tuple[float, float]:
    return (
        statistics.median(row["server_core"] for row in own),
        statistics.median(row["client_core"] for row in own),
    )


def _others(own: Rows) -> float:
    """The share of the server's cores that other programs used."""
    shares: list[float] = [row["server_core"] - row["server_share"] for row in own]
    return statistics.median(shares)


def _limit(own: Rows) -> str:
    server_core, client_core = _busy(own)
    if server_core >= SERVER_FREE:
        return "others" if _others(own) > DISTURBED else "server"
    return "**client**" if client_core >= CLIENT_BUSY else "-"


def _comparisons(scenario: Scenario, rows: Rows) -> list[str]:
    """The ratios to the peers, one table per metric."""
    present = {row["server"] for row in rows}
    peers = [name for name in scenario.against if name in present]
    lines = []
    for metric in scenario.metrics:
        what = _FORMATS[metric][0].format(unit=scenario.load.unit)
        body = [
            [name, *(_ratio_text(_ratios(rows, (name,), (peer,), metric)) for peer in peers)]
            for name in (server.name for server in scenario.servers)
            if name in present and name not in scenario.against
        ]
        if body and peers:
            lines += _table([f"{what}, ratio to", *peers], body)
    return lines


def _notes(scenario: Scenario, measured: dict[str, Any]) -> list[str]:
    rows = measured["results"]
    notes = [f"{name} is left out: `{why}`" for name, why in measured["left_out"].items()]
    notes += [f"void: {why}" for why in measured["void"]]
    if measured["load"] != repr(scenario.load):
        notes.append(f"the limit of open files does not allow `{scenario.load}` here")
    names = [s.name for s in scenario.servers if _of(rows, s.name)]
    limited = [name for name in names if _limit(_of(rows, name)) == "**client**"]
    if limited:
        notes.append(
            f"the client was the limit for {', '.join(limited)}: their {scenario.load.unit}s "
            "per second and latencies are the client's; CPU time is their own"
        )
    disturbed = {name: _others(_of(rows, name)) for name in names}
    worst = max(disturbed, key=lambda name: disturbed[name], default=None)
    if worst and disturbed[worst] > DISTURBED:
        notes.append(
            f"other programs, or the kernel's threads, used up to {disturbed[worst]:.0%} of the "
            f"server's core during the measurement ({worst})"
        )
    errors = sum(row["errors"] for row in rows)
    if errors:
        notes.append(f"{errors:,} of {sum(row['requests'] for row in rows):,} requests failed")
    return [f"- {note}" for note in notes] + [""] * bool(notes)


def _aim_line(scenario: Scenario, aim: Aim, rows: Rows) -> list[str]:
    ratios = _ratios(rows, aim.over, aim.under, aim.metric)
    what = _FORMATS[aim.metric][0].format(unit=scenario.load.unit)
    if len(aim.over) == 1:
        text = f"{aim.over[0]} / {aim.under[0]}"
    else:
        (a, d), (b, c) = aim.over, aim.under
        text = f"({a} / {b}) / ({c} / {d})"
    met = "" if not ratios else "yes" if statistics.median(ratios) <= aim.limit else "**no**"
    return [scenario.name, f"{text}, {what}", f"{aim.limit:.2f}", _ratio_text(ratios), met]


def markdown(data: dict[str, Any]) -> str:
    """The whole report."""
    measured = {m["name"]: m for m in data["scenarios"]}
    scenarios = [s for s in SCENARIOS if s.name in measured]
    lines = [
        "# aiofastsocket and its peers",
        "",
        f"{data['rounds']} rounds, {data['date']}. [benchmarks/README.md](../README.md) "
        "explains the method and how to read the figures. Figures are medians over the rounds; in "
        "brackets are the quartiles. Absolute figures hold for this machine at that hour only. "
        "Compare the ratios, which are taken within a round.",
        "",
        *_table(["machine", ""], [[k, v] for k, v in data["machine"].items()]),
        *_table(["version", ""], [[k, v] for k, v in data["versions"].items()]),
        "## Aims",
        "",
    ]
    aims = [_aim_line(s, aim, measured[s.name]["results"]) for s in scenarios for aim in s.aims]
    lines += _table(["scenario", "ratio", "at most", "measured", "met"], aims)
    for scenario in scenarios:
        rows = measured[scenario.name]["results"]
        own = measured[scenario.name]
        load = f"Load: `{own['load']}`, {own['seconds']} s per measurement."
        lines += [f"## {scenario.title}", "", f"{scenario.about} {load} (`{scenario.name}`)", ""]
        if rows:
            lines += [f"![{scenario.title}]({scenario.name}.svg)", ""]
            lines += _figures(scenario, rows) + _comparisons(scenario, rows)
        lines += _notes(scenario, measured[scenario.name])
    return "\n".join(lines)
