"""The options of `serve` are one table, and everything made from it agrees with it."""

import argparse
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from aiofastsocket.server import arguments
from aiofastsocket.server.config import Config
from aiofastsocket.server.http.config import HttpConfig
from aiofastsocket.server.options import OPTIONS, Option
from aiofastsocket.server.tls import TlsConfig

SERVER = Path(arguments.__file__).parent

# Options that become addresses in Config.binds, and options with only one value.
ADDRESSES = {"bind", "host", "port", "uds", "fd"}
ONLY = {"http"}
# Fields that are not options.
OTHERS = {"target", "binds", "http", "tls", "access_logger"}


def test_each_option_has_a_field_and_each_field_an_option() -> None:
    configs = (Config, HttpConfig, TlsConfig)
    found = [field for config in configs for field in fields(config) if field.name not in OTHERS]
    names = [field.name for field in found]
    assert sorted(names) == sorted(
        {option.name for option in OPTIONS if not option.start} - ADDRESSES - ONLY
    )
    defaults = {option.name: option.default for option in OPTIONS}
    for field in found:
        if field.name != "loop":  # the option's auto becomes uvloop
            assert field.default is not MISSING
            assert field.default == defaults[field.name], field.name


def test_the_parser_has_nothing_else() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    arguments.add(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    wanted = {option.flag for option in OPTIONS} | {"-b", "-c", "-w"}
    assert {flag for flag in flags if not flag.startswith("--no-")} == wanted
    calls = sum(len(re.findall(r"\.add_argument\(", p.read_text())) for p in SERVER.rglob("*.py"))
    assert calls == 2  # the target, and the options of the table


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_help_text_is_understood_alone(option: Option) -> None:
    assert len(option.help.split()) >= 3
    first = option.help.split()[0]
    assert first not in ("of", "its", "their", "else", "until", "from", "where", "whether"), first
    assert not option.help.endswith(".")
    assert re.fullmatch(r"\d+\.\d+", option.since)
    assert re.fullmatch(r"[A-Z][A-Z_]+|", option.variable)
