"""The metrics of a service, and a load whose waits the client measures itself."""

import json
import threading
import time
import urllib.request
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from .by_hand import get
from .client import Address, connect, receive_all


class Metrics(dict[str, float]):
    """Values by name and labels, as they are written: 'requests_total{code="2xx"}'."""

    def of(self, name: str) -> float:
        """The sum of the values with this name, whatever their labels."""
        return sum(v for k, v in self.items() if k.partition("{")[0] == name)

    def quantile(self, name: str, q: float) -> float:
        """The quantile of a histogram, as PromQL's histogram_quantile computes it."""
        prefix = f'{name}_bucket{{le="'
        ends = sorted(
            (float(k[len(prefix) : -2]), v) for k, v in self.items() if k.startswith(prefix)
        )
        rank, begin, below = q * ends[-1][1], 0.0, 0.0
        for end, count in ends:
            if count >= rank:
                return begin + (end - begin) * (rank - below) / (count - below)
            begin, below = end, count
        raise AssertionError(name)


def scrape(port: int, path: str = "/metrics") -> Metrics:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        text = answer.read().decode()
    found = Metrics()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
            name = sample.name.removeprefix("aiofastsocket_")
            found[f"{name}{{{labels}}}" if labels else name] = sample.value
    return found


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


@dataclass
class Steady:
    """Connections of one request each, 5 ms apart: the time that each waited for its answer, and
    the time that it waited in the kernel, as the server says (/scope)."""

    address: Address
    took: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def _ask(self) -> None:
        began = time.monotonic()
        with connect(self.address) as sock:
            sock.sendall(get("/scope", "Connection: close"))
            head, _, body = receive_all(sock).partition(b"\r\n\r\n")
        self.took.append(time.monotonic() - began)
        self.statuses.append(int(head.split()[1]))
        if head.split()[1] == b"200":
            extension = json.loads(body)["extensions"].get("aiofastsocket.queue_time")
            if extension is not None:
                self.told.append(extension["seconds"])

    def send(self, count: int) -> list[threading.Thread]:
        threads = []
        for _ in range(count):
            threads.append(threading.Thread(target=self._ask))
            threads[-1].start()
            time.sleep(0.005)
        return threads
