"""The number of this tree's release, from native/include/fastsocket/version.h."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = ROOT / "native" / "include" / "fastsocket" / "version.h"

_found = re.search(r'^#define FS_RELEASE "(.+)"$', VERSION.read_text(), re.MULTILINE)
assert _found is not None
RELEASE = _found[1]
