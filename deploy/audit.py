"""Check dist/ before it is published, by twine, check-wheel-contents and auditwheel.

Also check that no wheel is missing, and that libfsocket.so exports exactly the names that
libfsocket.map lists.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from release import RELEASE, VERSION
from wheels import DIST, ROOT, TARGETS, VERSIONS

MAP = ROOT / "native" / "shim" / "libfsocket.map"


def wrong(what: str) -> None:
    sys.exit(f"release-check: {what}")


def run(*command: str | Path) -> str:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    if done.returncode:
        wrong(f"{command[0]}: {done.stdout}{done.stderr}")
    return done.stdout


def exported(library: ELFFile) -> set[str]:
    table = library.get_section_by_name(".dynsym")
    assert isinstance(table, SymbolTableSection)
    return {
        symbol.name
        for symbol in table.iter_symbols()
        if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] == "STB_GLOBAL"
    }


def needed(library: ELFFile) -> set[str]:
    section = library.get_section_by_name(".dynamic")
    assert isinstance(section, DynamicSection)
    return {tag.needed for tag in section.iter_tags() if tag.entry.d_tag == "DT_NEEDED"}


def look_inside(wheel: Path, platform: str) -> None:
    """Raises SystemExit if a library of the wheel is linked to more than libc, or libfsocket.so
    exports another name."""
    text = re.sub(r"/\*.*?\*/", "", MAP.read_text(), flags=re.DOTALL)
    wanted = set(re.findall(r"([\w*]+);", text.partition("local:")[0]))
    with zipfile.ZipFile(wheel) as content, tempfile.TemporaryDirectory() as folder:
        for name in content.namelist():
            if not name.endswith(".so"):
                continue
            with open(content.extract(name, folder), "rb") as file:
                library = ELFFile(file)
                found = needed(library)
                if "musl" in platform and found != {"libc.so"}:
                    wrong(f"{wheel.name}: {name} is linked to {', '.join(sorted(found))}")
                if name.endswith("libfsocket.so"):
                    more = {n for n in exported(library) if not n.startswith("fsocket_")} - wanted
                    if more:
                        wrong(f"{wheel.name}: libfsocket.so also exports {', '.join(sorted(more))}")
                    if len(exported(library)) < len(wanted) - 1:
                        wrong(f"{wheel.name}: libfsocket.so exports too few names")


def git(*command: str) -> list[str]:
    return subprocess.check_output(["git", *command], cwd=ROOT, text=True).split()


def look_at_tags() -> None:
    """Raises SystemExit if another commit has this release's tag, or this one has another tag."""
    tag, here = f"v{RELEASE}", git("tag", "--points-at", "HEAD", "--list", "v*")
    if tag not in here and (here or tag in git("tag", "--list", tag)):
        found = f"this commit has tag {here[0]}" if here else f"another commit has tag {tag}"
        wrong(f"{found}, but {VERSION.relative_to(ROOT)} says {RELEASE}")
    if not here:
        print(f"release-check: to publish this commit, tag it {tag}")


def main() -> None:
    files = sorted(DIST.iterdir())
    run("twine", "check", "--strict", *files)
    found = {p.stem.split("-", 2)[2]: p for p in files if p.suffix == ".whl"}
    tags = [f"cp{v.replace('.', '')}" for v in VERSIONS]
    missing = {f"{tag}-{tag}-{platform}" for tag in tags for platform in TARGETS} - found.keys()
    if missing or not list(DIST.glob("*.tar.gz")):
        wrong(f"dist/ lacks {', '.join(sorted(missing)) or 'the sdist'}: run make wheels")
    strange = [p.name for p in files if not p.name.startswith(f"aiofastsocket-{RELEASE}")]
    if strange:
        wrong(f"the release is {RELEASE}, but dist/ has {', '.join(strange)}: run make wheels")
    look_at_tags()
    for tag, wheel in found.items():
        platform = tag.split("-")[2]
        run("check_wheel_contents", wheel)
        if "manylinux" in platform:  # not for musl: its loader is missing here
            told = " ".join(run("auditwheel", "show", wheel).split())
            least = re.search(r'platform tag to "manylinux_2_(\d+)_', told)
            if least is None or int(least[1]) > 28:
                wrong(f"{wheel.name} does not match its name: {told}")
        look_inside(wheel, platform)
    print(f"release-check: {len(found)} wheels and the sdist passed all checks")


if __name__ == "__main__":
    main()
