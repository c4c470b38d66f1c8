"""The kinds of option values, one class per kind. A kind reads a value from text (the command line,
the environment) or takes it from Python.

Each kind has `convert`, which returns the value, or raises UsageError with the given value and the
valid values. `what` is the option as the user named it: "--backlog", "$WEB_CONCURRENCY".
"""

import math
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..choices import check_word
from ..errors import UsageError


class Kind(Protocol):
    """One kind of values. metavar: the placeholder for the value in a help text."""

    @property
    def metavar(self) -> str | None: ...

    def convert(self, what: str, value: Any) -> Any: ...


def _wrong(what: str, value: Any, right: str) -> UsageError:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        shown = str(value) if len(str(value)) < 100 else "(too long to show)"
        return UsageError(f"{what} {shown}: use {right}")
    return UsageError(f"{what} {value!r} has the wrong type: use {right}")


@dataclass(frozen=True)
class Text:
    """Any text, and from Python also a path. commas: the text is a list separated by commas; from
    Python it may be a list."""

    metavar: str
    commas: bool = False

    def convert(self, what: str, value: Any) -> str:
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if self.commas and isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        if not isinstance(value, str):
            raise _wrong(what, value, "text, in quotes")
        return value


@dataclass(frozen=True)
class Word:
    """One of some words. elsewhere: words of other servers, each with its replacement here."""

    words: tuple[str, ...]
    elsewhere: tuple[tuple[str, str], ...] = ()
    metavar = None

    def convert(self, what: str, value: Any) -> str:
        for word, instead in self.elsewhere:
            if value == word:
                raise UsageError(f"{what} {word}: {instead}")
        return check_word(what, value, self.words)


@dataclass(frozen=True)
class Whole:
    """A whole number from `least` to `most` (None: no limit)."""

    least: int = 1
    most: int | None = None
    metavar: str = "N"

    def convert(self, what: str, value: Any) -> int:
        right = f"{self.least} or more" if self.most is None else f"{self.least} to {self.most}"
        try:
            number = int(value) if isinstance(value, str) else operator.index(value)
        except (TypeError, ValueError):  # also: too many digits
            number = None
        if number is None or isinstance(value, bool):
            raise _wrong(what, value, f"a whole number, {right}")
        if number < self.least or (self.most is not None and number > self.most):
            raise _wrong(what, value, right)
        return number


@dataclass(frozen=True)
class Auto:
    """A whole number, or auto, which becomes None."""

    number: Whole
    metavar = "N|auto"

    def convert(self, what: str, value: Any) -> int | None:
        if value == "auto" or value is None:
            return None
        if isinstance(value, str) and not value.removeprefix("-").isdecimal():
            raise UsageError(f"{what} is {value!r}: use auto or a number")
        return self.number.convert(what, value)


@dataclass(frozen=True)
class Seconds:
    """A time in seconds. zero: 0 is allowed too."""

    zero: bool = False
    metavar = "SECONDS"

    def convert(self, what: str, value: Any) -> float:
        right = "0 or more seconds" if self.zero else "more than 0 seconds"
        try:
            seconds = float(value) if isinstance(value, int | float | str) else math.nan
        except (ValueError, OverflowError):
            seconds = math.nan
        if isinstance(value, bool) or not (seconds > 0 or (self.zero and seconds == 0)):
            raise _wrong(what, value, right)
        return seconds


@dataclass(frozen=True)
class Switch:
    """Yes or no. flag: the command line can only switch it on."""

    flag: bool = False
    metavar = None

    def convert(self, what: str, value: Any) -> bool:
        if value not in (True, False, "yes", "no"):  # 1 and 0 equal True and False
            raise _wrong(what, value, "true or false")
        return bool(value) and value != "no"


@dataclass(frozen=True)
class Field:
    """A header field, as bytes: "NAME:VALUE", or a pair."""

    metavar = "NAME:VALUE"

    def convert(self, what: str, value: Any) -> tuple[bytes, bytes]:
        if isinstance(value, str):
            name, colon, text = value.partition(":")
            if not colon:
                raise UsageError(f"{what} {value!r}: write it as NAME:VALUE")
            value = name.strip(), text.strip()
        try:
            pair = [v if isinstance(v, bytes) else str(v).encode() for v in value]
            first, second = pair
        except (TypeError, ValueError):
            raise _wrong(what, value, "a pair of name and value") from None
        return first, second


@dataclass(frozen=True)
class Each:
    """Any number of values of a kind; from Python a list, one value, or a dict of pairs."""

    kind: Kind

    @property
    def metavar(self) -> str | None:
        return self.kind.metavar

    def convert(self, what: str, value: Any) -> tuple[Any, ...]:
        if isinstance(value, Mapping):
            value = value.items()
        elif isinstance(value, str | os.PathLike):
            value = [value] if value else []
        try:
            several = list(value)
        except TypeError:
            raise _wrong(what, value, "a list") from None
        return tuple(self.kind.convert(what, one) for one in several)


@dataclass(frozen=True)
class Anything:
    """Any value; the code that uses it checks it."""

    metavar: str

    def convert(self, what: str, value: Any) -> Any:
        return os.fspath(value) if isinstance(value, os.PathLike) else value
