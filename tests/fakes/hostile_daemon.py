"""A real daemon whose engine was taken over: `python hostile_daemon.py SCRIPT -c routes.yaml`."""

from __future__ import annotations

import sys
from pathlib import Path

from routed import cli
from routed.parent.engine_process import spawn as privsep

if __name__ == "__main__":
    engine = Path(__file__).with_name("hostile_engine.py")
    privsep.ENGINE_COMMAND = (sys.executable, str(engine), sys.argv[1], "--role", "engine")
    sys.exit(cli.main(sys.argv[2:]))
