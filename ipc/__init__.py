"""What crosses a process boundary: frames, messages, credentials, descriptors, the FIB snapshot.

`routectl` and other clients import from here and never from `routed`, except that the messages
between parent and engine (`routed/imsg/messages.py`) carry the nouns of `routed.model`, declared
once. Importing this package costs nothing; each module names what it needs.
"""
