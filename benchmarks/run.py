"""Run scenarios and write the report: python benchmarks/run.py --help."""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import clients
import machine
import peers
import report
from measure import measure
from scenarios import SCENARIOS, Idle, Scenario, Server


def _chosen(server: Server, only: list[str]) -> bool:
    return not only or any(server.name == o or server.name.startswith(f"{o}-") for o in only)


def _fitting(scenario: Scenario) -> Scenario:
    """The scenario, with no more idle connections than a process may have here."""
    load = scenario.load
    if not isinstance(load, Idle):
        return scenario
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return replace(scenario, load=replace(load, connections=min(load.connections, limit - 500)))


def run(scenario: Scenario, rounds: int, full: bool, only: list[str]) -> dict[str, Any]:
    """Measure all servers of a scenario in turns. Each round adds one line of figures per server.

    Every measurement is of a fresh process. So a peer does not keep the luck of one process, for
    example the place of its memory.
    """
    scenario = _fitting(scenario)
    chosen = [server for server in scenario.servers if _chosen(server, only)]
    begun = time.monotonic()
    results, void = [], []
    left_out: dict[str, str] = {}
    for number in range(rounds):
        there = [server for server in chosen if server.name not in left_out]
        for server in random.sample(there, len(there)):
            try:
                with peers.running(server) as target:
                    figures = measure(target, scenario.load, scenario.seconds[full], number)
            except (peers.CannotStart, clients.Void) as error:
                if not number and isinstance(error, peers.CannotStart):
                    left_out[server.name] = str(error)
                    continue
                void.append(f"{server.name}, round {number + 1}: {error}")
            else:
                results.append({"server": server.name, "round": number + 1, **figures})
        print(f"{scenario.name}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return {
        "name": scenario.name,
        "load": repr(scenario.load),
        "seconds": scenario.seconds[full],
        "took": round(time.monotonic() - begun, 1),
        "left_out": left_out,
        "void": void,
        "results": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure aiofastsocket and its peers.")
    parser.add_argument("--full", action="store_true", help="measure longer, and in more rounds")
    parser.add_argument("--scenario", nargs="+", choices=[s.name for s in SCENARIOS], default=[])
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        help="measure only these servers: ours, uvloop, c, nginx ...",
    )
    parser.add_argument("--into", help="write the report of a selection to results/INTO")
    parser.add_argument("--rounds", type=int, help="number of rounds (5, with --full 7)")
    args = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the server, one for the client")
    for program in ("cc", "wrk", "ab", "curl", "openssl"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is needed but not installed")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    peers.compile_programs()
    peers.make_certificate()
    rounds = args.rounds or (7 if args.full else 5)
    chosen = [s for s in SCENARIOS if not args.scenario or s.name in args.scenario]
    servers = [server for s in chosen for server in s.servers if _chosen(server, args.only)]
    for name in sorted({server.environment for server in servers if server.environment}):
        peers.environment(name)
    data = {
        "date": time.strftime("%Y-%m-%d"),
        "rounds": rounds,
        "machine": machine.describe(),
        "versions": machine.versions(),
        "scenarios": [run(s, rounds, args.full, args.only) for s in chosen],
    }
    folder = peers.HERE / "results"
    if args.into:
        folder /= args.into
    elif args.scenario or args.only:
        folder = peers.BUILD / "results"
    write(data, folder)


def write(data: dict[str, Any], folder: Path) -> None:
    """Write results, report and plots, and print the report."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = json.dumps(data).replace(
        '{"server"', '\n{"server"'
    )  # a line per measurement, for diffs
    (folder / "results.json").write_text(lines + "\n")
    text = report.markdown(data)
    (folder / "README.md").write_text(text)
    print(text)
    python = peers.environment("report") / "bin" / "python"
    subprocess.run([python, peers.HERE / "plots.py", folder], check=True)


if __name__ == "__main__":
    main()
