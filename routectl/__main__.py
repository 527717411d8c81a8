"""python -m routectl"""

import sys

from routectl.cli import main

sys.exit(main())
