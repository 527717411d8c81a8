"""Communication between processes: frames, messages, credentials, descriptors, the FIB snapshot.

`routectl` and other clients import from here and never from `routed`. The messages between parent
and engine are in `routed/imsg`. Importing this package imports nothing else; each module imports
what it needs.
"""
