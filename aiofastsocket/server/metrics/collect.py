"""The metrics: their names, by Prometheus' conventions, and the sources of their values."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ..._native import lib
from ...kernel import Queue, listen_queues, netstat
from ...proc import resident_bytes
from ...table.histogram import ENDS, Histogram
from ...table.view import Readable, SlotInfo
from ..pages import Counted, Pages, Told

SOURCES = ("own", "stolen", "orphan", "global")
CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
REFUSALS = {
    lib.FS_REFUSED_MALFORMED: "malformed",
    lib.FS_REFUSED_TOO_LARGE: "too_large",
    lib.FS_REFUSED_TIMEOUT: "timeout",
    lib.FS_REFUSED_CONCURRENCY: "concurrency",
    lib.FS_REFUSED_QUEUE_TIME: "queue_time",
    lib.FS_REFUSED_NOT_TLS: "not_tls",
    lib.FS_REFUSED_NO_PROXY: "no_proxy",
}
RESTARTS = {
    Told.CRASHES: "crash",
    Told.REQUESTS: "max_requests",
    Told.MEMORY: "rss",
    Told.LIFETIME: "lifetime",
    Told.STUCK: "stuck",
    Told.FAILED_STARTS: "failed_start",
}

_FINE = (0.001, 8.5)  # seconds: a power of two has four buckets in between, and one elsewhere
_FIRST = 0.0001


def _bounds() -> Iterator[int]:
    """Our buckets that end together with a bucket of Prometheus."""
    for bucket, end in enumerate(ENDS[:-1]):
        begins_power = bucket % 8 == 7
        if end >= _FIRST and (begins_power or (bucket % 2 == 1 and _FINE[0] < end < _FINE[1])):
            yield bucket


BOUNDS = tuple(_bounds())


@dataclass(frozen=True)
class Look:
    """One look at the listen tables. slots: for each table its address, its slots, and the waiting
    times of the connections that they accepted."""

    slots: Sequence[tuple[str, list[SlotInfo], Histogram]]

    @classmethod
    def at(cls, tables: Iterable[Readable]) -> "Look":
        seen = []
        for table in tables:
            slots = table.slots()
            waits = Histogram()
            for slot in slots:
                if slot.used:
                    waits += table.waits(slot.slot)
            seen.append((table.info().address, slots, waits))
        return cls(seen)

    def total(self, of: Callable[[SlotInfo], int]) -> int:
        """The sum over all slots."""
        return sum(of(slot) for _, slots, _ in self.slots for slot in slots)


class Service(Collector):
    """The metrics of one service. labels: those of aiofastsocket_info."""

    def __init__(self, pages: Pages, tables: Sequence[Readable], labels: dict[str, str]) -> None:
        self._pages = pages
        self._tables = tables
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        """All metrics, as they are now."""
        counted, look = self._pages.read(), Look.at(self._tables)
        yield _gauge("info", "Version and backend of the server; always 1.", 1, **self._labels)
        yield from _connections(counted, look)
        yield from _queues(look)
        yield from _requests(counted)
        yield from _workers(counted)
        yield from _host()


def _connections(counted: Counted, look: Look) -> Iterator[Metric]:
    accepted = _counters("connections_accepted", "Connections accepted, by source.", "source")
    by_source: dict[str, Callable[[SlotInfo], int]] = {
        "own": lambda slot: slot.own,
        "stolen": lambda slot: slot.stolen,
        "orphan": lambda slot: slot.orphan,
        "global": lambda slot: slot.global_,
    }
    for source in SOURCES:
        accepted.add_metric([source], look.total(by_source[source]))
    yield accepted
    text = "Connections that other workers took because their own worker was late."
    yield _counter("connections_late", text, look.total(lambda slot: slot.helped))
    taken, over = counted.connections
    yield _gauge("connections_open", "Open connections.", max(0, taken - over))


def _queues(look: Look) -> Iterator[Metric]:
    waits = sum((waits for _, _, waits in look.slots), Histogram())
    text = "Time from a connection's first bytes until the server took them."
    yield _histogram("queue_seconds", text, waits)
    queues: dict[int, Queue] = {}
    try:
        queues = listen_queues()
    except OSError:  # a sandbox: the lengths are not available
        return
    length = GaugeMetricFamily(
        "aiofastsocket_queue_length",
        "Connections that wait to be accepted.",
        labels=("address", "slot"),
    )
    limit = GaugeMetricFamily(
        "aiofastsocket_queue_limit",
        "Most connections that may wait to be accepted.",
        labels=("address", "slot"),
    )
    for address, slots, _ in look.slots:
        for slot in slots:
            if slot.used and (queue := queues.get(slot.cookie)) is not None:
                length.add_metric([address, str(slot.slot)], queue.length)
                limit.add_metric([address, str(slot.slot)], queue.limit)
    yield length
    yield limit


def _requests(counted: Counted) -> Iterator[Metric]:
    text = "Requests, by the class of their status; none: the client left before the response."
    answered = _counters("requests", text, "code")
    for code, count in zip(CLASSES, counted.answered, strict=True):
        answered.add_metric([code], count)
    yield answered
    text = "Time from a request's head to the end of its response."
    yield _histogram("request_seconds", text, counted.took)
    refused = _counters(
        "requests_refused", "Requests that the server refused itself, by reason.", "reason"
    )
    for number, reason in REFUSALS.items():
        refused.add_metric([reason], counted.refused[number])
    yield refused
    yield _counter("received_bytes", "Bytes received.", counted.received)
    yield _counter("sent_bytes", "Bytes sent.", counted.sent)
    opened, over = counted.websockets
    yield _counter("websockets_opened", "WebSockets that were opened.", opened)
    yield _gauge("websockets_open", "Open WebSockets.", max(0, opened - over))
    yield _counter(
        "log_lines_dropped",
        "Lines of the access log that could not be written.",
        counted.dropped,
    )


def _workers(counted: Counted) -> Iterator[Metric]:
    yield _gauge("workers", "Worker processes.", len(counted.workers))
    yield _gauge("workers_wanted", "Number of worker processes wanted.", counted.told[Told.WANTED])
    text = "Time that the event loops of all workers worked and did not wait for events."
    yield _counter("busy_seconds", text, counted.worked)
    resident = GaugeMetricFamily(
        "aiofastsocket_worker_resident_bytes",
        "Resident memory of the workers of a slot.",
        labels=("slot",),
    )
    by_slot: dict[int, int] = {}
    for pid, slot in counted.workers:
        by_slot[slot] = by_slot.get(slot, 0) + resident_bytes(pid)
    for slot, size in sorted(by_slot.items()):
        resident.add_metric([str(slot)], size)
    yield resident
    restarts = _counters("worker_restarts", "Workers replaced or not started, by reason.", "reason")
    for word, reason in RESTARTS.items():
        restarts.add_metric([reason], counted.told[word])
    yield restarts
    yield _counter("reloads", "Reloads of all workers.", counted.told[Told.RELOADS])
    if ends := counted.told[Told.CERTIFICATE_ENDS]:
        text = "Time when the first certificate expires, in seconds since 1970."
        yield _gauge("certificate_end_timestamp_seconds", text, ends)


def _host() -> Iterator[Metric]:
    """Counters of the network namespace, for all its listeners."""
    try:
        found = netstat()
    except OSError:
        return
    text = "Connections that found a listener's queue full, on this host."
    yield _counter("host_listen_overflows", text, found.get("ListenOverflows", 0))
    text = "Connections that a listener dropped, for any reason, on this host."
    yield _counter("host_listen_drops", text, found.get("ListenDrops", 0))


def _gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    metric = GaugeMetricFamily(f"aiofastsocket_{name}", text, labels=tuple(labels))
    metric.add_metric(list(labels.values()), value)
    return metric


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"aiofastsocket_{name}", text, value=value)


def _counters(name: str, text: str, label: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"aiofastsocket_{name}", text, labels=(label,))


def _histogram(name: str, text: str, times: Histogram) -> Metric:
    buckets, seen, at = [], 0, 0
    for bound in BOUNDS:
        seen += sum(times.counts[at : bound + 1])
        at = bound + 1
        buckets.append((f"{ENDS[bound]:g}", seen))
    buckets.append(("+Inf", times.count))
    return HistogramMetricFamily(
        f"aiofastsocket_{name}", text, buckets=buckets, sum_value=times.sum
    )
