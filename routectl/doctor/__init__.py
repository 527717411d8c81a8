"""`routectl doctor`: examines what can spoil a Linux router, and changes nothing.

    gather.py       this host, by /proc, /sys, netlink and ioctl --> Facts   (facts.py: plain data)
    the checks      Facts --> Finding, each a pure function
                    kernel_checks.py (sysctls, tables, clock), link_checks.py (interfaces),
                    program_checks.py (other routing programs)
    checks.py       the list of all checks
    command.py      the command: gathers, checks, shows

Every source may be missing, as in a container, without root, or without a daemon: the fact is None
then, and the finding is `unknown` with the reason, never an error. No packet is sent.

To add a check: a field of a class of `facts.py`, its source in `gather.py` or `link_facts.py`, the
function with its line in `checks.py`, a case in `tests/unit/routectl/test_doctor_checks.py`, and
the row of the table in `docs/doctor.md`.
"""
