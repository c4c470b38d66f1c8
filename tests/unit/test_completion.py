"""The completions that shells offer."""

import shutil
import subprocess
from pathlib import Path

import pytest

from aiofastsocket.cli import _parser
from aiofastsocket.completion import SHELLS, script
from aiofastsocket.server.options import OPTIONS


def bash(*words: str, cwd: Path) -> set[str]:
    """The completions that bash offers for the last of these words."""
    quoted = " ".join(f"'{word}'" for word in words)
    text = script("bash", _parser()) + (
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n_aiofastsocket\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", text], cwd=cwd, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash(tmp_path: Path) -> None:
    (tmp_path / "file.toml").touch()
    first = bash("aiofastsocket", "", cwd=tmp_path)
    assert first == {"serve", "exec", "stats", "preload-path", "completion"}
    assert bash("aiofastsocket", "serve", "--wor", cwd=tmp_path) == {"--workers"}
    assert bash("aiofastsocket", "serve", "--steer", "", cwd=tmp_path) == {"auto", "cpu", "spread"}
    assert bash("aiofastsocket", "serve", "--config", "", cwd=tmp_path) == {"file.toml"}
    assert bash("aiofastsocket", "serve", "--workers", "", cwd=tmp_path) == set()
    flags = bash("aiofastsocket", "serve", "--", cwd=tmp_path)
    assert {option.flag for option in OPTIONS} <= flags
    assert bash("aiofastsocket", "stats", "--j", cwd=tmp_path) == {"--json"}
    assert bash("aiofastsocket", "completion", "", cwd=tmp_path) == {"bash", "zsh", "fish"}


@pytest.mark.programs
def test_fish_and_zsh(tmp_path: Path) -> None:
    for shell in SHELLS:
        path = tmp_path / f"completion.{shell}"
        path.write_text(script(shell, _parser()))
        assert shutil.which(shell)
        subprocess.run([shell, "-n", path], check=True)

    def fish(line: str) -> set[str]:
        text = f"source {tmp_path}/completion.fish; complete -C '{line}'"
        done = subprocess.run(["fish", "-c", text], capture_output=True, text=True, check=True)
        return {found.split("\t")[0] for found in done.stdout.splitlines()}

    assert fish("aiofastsocket serve --work") == {"--workers"}
    assert fish("aiofastsocket serve --steer ") == {"auto", "cpu", "spread"}
    assert {"serve", "stats"} <= fish("aiofastsocket ")
    assert fish("aiofastsocket completion ") == {"bash", "zsh", "fish"}
