"""Entry point of `python -m routectl`."""

import sys

from routectl.quick import main

sys.exit(main())
