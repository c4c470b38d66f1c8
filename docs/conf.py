"""The configuration of Sphinx. `make docs` builds the site, and treats warnings as errors."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `tables`

project = "aiofastsocket"
copyright = "the aiofastsocket authors"
release = version = version_of("aiofastsocket")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "tables"]
myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3

default_role = "literal"
autodoc_member_order = "bysource"

smartquotes = False  # an option keeps its two dashes

html_theme = "furo"
html_title = f"aiofastsocket {release}"
exclude_patterns = ["_build"]
