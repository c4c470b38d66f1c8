"""The entry point of `python -m aiofastsocket`."""

from .cli import main

raise SystemExit(main())
