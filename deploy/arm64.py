"""`make test-arm64`: test the aarch64 wheel on an aarch64 machine with the steps of fresh.sh.

The machine is a Debian with its own kernel, booted in an emulator. That takes minutes. qemu-user is
not enough: it lacks robust mutexes, SO_ATTACH_REUSEPORT_CBPF and SO_COOKIE.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from fresh import INSTALLERS
from guest import watch
from machines import BUILD, MACHINES, ORDINARY, lend_wheels, made

NAME = "debian-13-arm64"
MINUTES = 20
# The first process of the machine, whose root file system is in memory.
INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm
uname -srm
sh /fresh.sh {python} {user} && echo "fresh: passed"
echo o >/proc/sysrq-trigger
sleep 60
"""
# Folders that the initramfs does not need: modules, documentation and translations.
LEFT_OUT = ("usr/lib/modules", "usr/share/doc", "usr/share/locale", "usr/share/man")


def main() -> None:
    (python,) = MACHINES[NAME].pythons
    root = made(NAME)
    lend_wheels(root, python, *INSTALLERS, machine="aarch64")
    shutil.copy(Path(__file__).with_name("fresh.sh"), root / "fresh.sh")
    (root / "init").write_text(INIT.format(python=f"python{python}", user=ORDINARY))
    (root / "init").chmod(0o755)
    for folder in LEFT_OUT:
        shutil.rmtree(root / folder, ignore_errors=True)
    (kernel,) = root.glob("boot/vmlinuz-*")
    kernel.replace(BUILD / "arm64.kernel")
    with (BUILD / "arm64.cpio").open("wb") as image:
        find = subprocess.Popen(["find", ".", "-print0"], cwd=root, stdout=subprocess.PIPE)
        command = ["cpio", "--null", "--create", "--format=newc", "--quiet"]
        subprocess.run(command, cwd=root, stdin=find.stdout, stdout=image, check=True)
        find.wait()
    command = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "3G"]
    command += ["-kernel", str(BUILD / "arm64.kernel"), "-initrd", str(BUILD / "arm64.cpio")]
    command += [
        "-append",
        "console=ttyAMA0 panic=-1 quiet",
        "-nographic",
        "-no-reboot",
        "-nic",
        "none",
    ]
    said = watch("arm64", command, MINUTES)
    shutil.rmtree(root)
    sys.exit(0 if "fresh: passed" in said else "test-arm64: failed")


if __name__ == "__main__":
    main()
