"""Entry point of the program: takes over Ctrl-C, then imports and runs the rest."""

from __future__ import annotations

try:
    from routectl.interrupts import INTERRUPTED, INTERRUPTS
except KeyboardInterrupt:
    raise SystemExit(130) from None

__all__ = ["main"]


def main() -> int:
    """Run the program. Returns its exit status."""
    INTERRUPTS.take_over()
    try:
        from routectl.quick import main as run  # Ctrl-C is held back from here on

        return run()
    except KeyboardInterrupt:
        return INTERRUPTED  # it came with the command's end
    finally:
        INTERRUPTS.end()
