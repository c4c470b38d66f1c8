"""Boot Debian's kernels in QEMU, with this machine's files, and run the tests of the module there.

    run.py [KERNEL ...] [-- PYTEST ARGUMENTS]     KERNEL: 6.1 6.12 newest debug; default: not debug

The module is built for the named kernels and for all except `debug`; the named ones are booted.
Everything is made in build/kernel: the kernels' images (taken from their packages, not installed),
the module for each, the C programs. Headers are packages, which the Makefile installs. `newest` is
Debian sid's, whose headers need sid's compiler and libc: the module is built in a chroot
(deploy/machines.py), and the image comes from this chroot, too. `debug` is built from Debian's
source of 6.1, with KASAN and lockdep; its build takes most of an hour.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "kernel"
PROGRAMS = Path(__file__).parent / "programs"
GUEST = Path(__file__).parent / "guest"
BIN = Path(sys.executable).parent

sys.path.insert(0, str(ROOT / "deploy"))
from guest import watch  # noqa: E402
from machines import made, run_in  # noqa: E402

PACKAGES = {"6.1": "linux-image-amd64", "6.12": "linux-image-6.12-amd64"}
# Check every object's ends and frees (6.1 and 6.12), and sample if the kernel has KFENCE.
BOOT = ["slub_debug=FZPU", "kfence.sample_interval=50", "panic_on_warn=0", "oops=continue"]
# A busy host may stop an emulated core for as long as the watchdogs wait: 20 s; here 120.
BOOT += ["sysctl.kernel.watchdog_thresh=60", "rcupdate.rcu_cpu_stall_timeout=120"]
# An emulated timer may tick too late for the kernel's check that it ticks (check_timer in
# arch/x86/kernel/apic/io_apic.c: "IO-APIC + timer doesn't work!").
BOOT += ["no_timer_check"]
MINUTES = {"6.1": 25, "6.12": 25, "newest": 25, "debug": 90}
USUAL = ["6.1", "6.12", "newest"]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]


def sh(*command: object, cwd: Path | None = None) -> str:
    """Run a command; its output. If the command fails, its output is shown."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, text=True, capture_output=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Kernel:
    """A kernel that is tested.

    how: virtme-run's arguments that boot it. headers: of the kernel, for modules. root: the chroot
    in which modules are built, if there is one.
    """

    name: str
    release: str
    headers: Path
    how: tuple[str, ...]
    root: Path | None = None


def packaged(name: str) -> Kernel:
    """The newest Debian release of that kernel, with the image and modules of its package."""
    depends = sh("apt-cache", "depends", PACKAGES[name])
    found = re.search(r"Depends: linux-image-(\S+)", depends)
    release = found[1] if found else sys.exit(f"{PACKAGES[name]} names no kernel:\n{depends}")
    folder = BUILD / release / "root"
    image = folder / "boot" / f"vmlinuz-{release}"
    if not image.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.parent.glob("linux-image-*.deb"):
            old.unlink()
        sh("apt-get", "download", f"linux-image-{release}", cwd=folder.parent)
        (package,) = folder.parent.glob("linux-image-*.deb")
        sh("dpkg", "-x", package, folder)
        sh("depmod", "-b", folder, release)
    headers = Path(f"/lib/modules/{release}/build")
    return Kernel(name, release, headers, ("--kimg", str(image), "--mods=auto"))


def newest() -> Kernel:
    """Debian sid's kernel."""
    root = made("debian-kernel")
    (modules,) = (root / "usr" / "lib" / "modules").iterdir()
    release = modules.name
    # virtme finds the modules of an image in this place.
    image = root / "boot" / f"vmlinuz-{release}"
    image.symlink_to(modules / "vmlinuz")
    sh("depmod", "-b", root, release)
    headers = Path("/lib/modules") / release / "build"
    return Kernel("newest", release, headers, ("--kimg", str(image), "--mods=auto"), root)


def built() -> Kernel:
    """Debian's 6.1 with every check that finds errors that tests do not see."""
    source = BUILD / "debug" / "linux-source-6.1"
    image = source / "arch/x86/boot/bzImage"
    config = Path(__file__).parent / "debug.config"
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        sh("tar", "-xf", "/usr/src/linux-source-6.1.tar.xz", "-C", source.parent)
    if not image.exists() or image.stat().st_mtime < config.stat().st_mtime:
        sh("make", "-s", "defconfig", cwd=source)
        sh("scripts/kconfig/merge_config.sh", "-m", ".config", config, cwd=source)
        sh("make", "-s", "olddefconfig", cwd=source)
        sh("make", "-s", f"-j{os.cpu_count()}", "bzImage", "modules", cwd=source)
    release = sh("make", "-s", "kernelrelease", cwd=source).strip()
    return Kernel("debug", release, source, ("--kdir", str(source), "--mods=auto"))


def build_module(kernel: Kernel) -> Path:
    """Build the module; a warning is an error."""
    words = [f"KERNEL={kernel.release}", f"HEADERS={kernel.headers}", "FS_WERROR=y"]
    module = Path("build") / "module" / kernel.release / "fastsocket.ko"
    if kernel.root is None:
        sh("make", "-C", ROOT / "native" / "module", *words)
        return ROOT / module
    shutil.copytree(ROOT / "native", kernel.root / "fastsocket" / "native")
    run_in(kernel.root, "make", "-C", "/fastsocket/native/module", *words)
    return kernel.root / "fastsocket" / module


def build_by_dkms(kernel: Kernel) -> None:
    """Build the module as dkms does for a new kernel, from the sources of `make dkms`."""
    root = BUILD / "dkms"
    shutil.rmtree(root, ignore_errors=True)
    sh("make", "-C", ROOT / "native" / "module", "dkms", f"DESTDIR={root}")
    (source,) = (root / "usr" / "src").iterdir()
    name, _, version = source.name.rpartition("-")
    where = ["--sourcetree", source.parent, "--dkmstree", root]
    sh("dkms", "build", "-m", name, "-v", version, "-k", kernel.release, *where)
    assert list(root.glob(f"{name}/{version}/{kernel.release}/*/module/{name}.ko*"))


def build_programs() -> None:
    include = ["-I", ROOT / "native" / "include"]
    out = BUILD / "programs"
    out.mkdir(parents=True, exist_ok=True)
    for name in ("abi", "listeners", "processes", "hostile", "stress", "rounds", "fuzz"):
        sh("cc", *FLAGS, *include, PROGRAMS / f"{name}.c", "-pthread", "-o", out / name)
    shared = ["-shared", "-fPIC", "-ldl", "-o", out / "preload2014.so"]
    sh("cc", *FLAGS, *include, PROGRAMS / "preload2014.c", *shared)


def boot(kernel: Kernel, module: Path, arguments: list[str]) -> bool:
    """Run the tests in the guest and show their output; whether they passed."""
    script = f"{GUEST / 'start.sh'} {BIN} {module} {shlex.join(arguments)}"
    command = [str(BIN / "virtme-run"), *kernel.how, "--disable-kvm"]
    command += ["--cpus", "2", "--memory", "3G", "--pwd", "--script-sh", script]
    for option in BOOT:
        command += ["-a", option]
    # On debug, udev takes too long to provide a port for the tests' output.
    console = [*command, "--show-boot-console"]
    minutes, began = MINUTES[kernel.name], time.monotonic()
    said = watch(kernel.name, console if kernel.name == "debug" else command, minutes)
    if kernel.release not in said:  # start.sh prints it first: no test has begun
        print(f"[{kernel.name}] did not come up; once more, with its console", flush=True)
        said = watch(kernel.name, console, minutes)
    passed = "guest: passed" in said
    verdict = "passed" if passed else "FAILED"
    print(
        f"[{kernel.name}] {kernel.release}: {verdict}, {time.monotonic() - began:.0f} s", flush=True
    )
    return passed


def main() -> int:
    arguments = sys.argv[1:]
    at = arguments.index("--") if "--" in arguments else len(arguments)
    names, rest = arguments[:at] or USUAL, arguments[at + 1 :]
    unknown = set(names) - MINUTES.keys()
    if unknown:
        sys.exit(f"no such kernel: {', '.join(unknown)}; use {', '.join(MINUTES)}")
    build_programs()
    others = {"newest": newest, "debug": built}
    wanted = dict.fromkeys([*names, *USUAL])
    kernels = [others[name]() if name in others else packaged(name) for name in wanted]
    modules = {kernel.name: build_module(kernel) for kernel in kernels}
    for kernel in kernels:
        if kernel.name in PACKAGES:
            build_by_dkms(kernel)
    # One after the other: guests that share cores wait for each other's spinning.
    passed = [boot(k, modules[k.name], rest) for k in kernels if k.name in names]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
