"""`python -m routed`."""

from __future__ import annotations

import sys

from routed.cli import main

if __name__ == "__main__":
    sys.exit(main())
