"""`make test-newer`: run the tests on a Python that this machine lacks.

They run in a chroot of Debian sid, with the wheel for that Python.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib

from machines import MACHINES, ROOT, lend_wheels, made, run_in

NO_WHEEL = ("forbiddenfruit",)  # it has only an sdist, of pure Python; blockbuster needs it

SCRIPT = """
set -e
ip link set lo up
python=$1; shift
$python -m venv /venv
/venv/bin/pip install -q --no-index --find-links /wheels aiofastsocket pytest
/venv/bin/pip install -q --no-index --find-links /wheels $(cat /group)
cd /src
# Not exec: this shell is process 1, and reaps orphans. test-fresh tests builds from source.
CI=true HOME=/tmp /venv/bin/pytest --ignore=tests/integration/test_package.py "$@"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("python", choices=MACHINES["tests"].pythons)
    parser.add_argument("arguments", nargs="*", help="arguments of pytest")
    given = parser.parse_args()
    root = made("tests")
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["test"]
    wheels = root / "wheels"
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        str(wheels),
        *NO_WHEEL,
    ]
    subprocess.run(command, check=True)
    lend_wheels(root, given.python, *group)
    (root / "group").write_text(" ".join(word.partition(">")[0] for word in group))
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        (root / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / "src" / name)
    (root / "tests.sh").write_text(SCRIPT)
    run_in(root, "sh", "/tests.sh", f"python{given.python}", *given.arguments, seconds=1800)
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
