"""Entry point of `python -m routectl`."""

import sys

from routectl.start import main

sys.exit(main())
