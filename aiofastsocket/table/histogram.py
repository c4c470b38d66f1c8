"""Histograms of times in shared memory. The buckets are exact to an eighth.

Source: native/include/fastsocket/fs.h, struct fs_histogram.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._native import ffi, lib

ENDS: tuple[float, ...] = tuple(lib.fs_bucket_end(i) / 1e6 for i in range(lib.FS_BUCKETS))
"""Ends of the buckets in seconds: their times are shorter; those of the last may be longer."""


@dataclass(frozen=True)
class Histogram:
    """Times, counted by buckets."""

    counts: Sequence[int] = (0,) * len(ENDS)
    """Number of times in each bucket; ENDS has the ends of the buckets."""
    sum: float = 0.0
    """Sum of all times, in seconds."""

    @classmethod
    def read(cls, raw: Any) -> "Histogram":
        """Read a struct fs_histogram."""
        return cls(list(raw.count), raw.sum / 1e9)

    def __add__(self, other: "Histogram") -> "Histogram":
        counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        return Histogram(counts, self.sum + other.sum)

    @property
    def count(self) -> int:
        """Number of times."""
        return sum(self.counts)

    def quantile(self, q: float) -> float | None:
        """Seconds that a share `q` (0 to 1) of the times did not exceed, to a sixteenth. None if
        there are no times."""
        rank, seen = q * self.count, 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= rank:
                begin = ENDS[bucket - 1] if bucket else 0.0
                return begin + (ENDS[bucket] - begin) * (1 - (seen - rank) / count)
        return None


def new() -> Any:
    """A new struct fs_histogram, which the caller fills."""
    return ffi.new("struct fs_histogram *")
