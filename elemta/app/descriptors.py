"""File descriptors of the process: the three standard ones must be open, and there should be many."""

from __future__ import annotations

import os
import resource
import sys

_SESSIONS_SHARE = 0.75
"""Part of all descriptors that sessions may have. The rest is for files, deliveries, DNS and the database."""


def open_standard_descriptors() -> None:
    """Open what is closed of standard input, output and error, on the null device.

    Else the next socket or file gets that number, and whatever is printed goes to a client, or into it.
    Call it before anything else is opened.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != number:  # something else was opened in between
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    # Python found them closed, and has None in their place, which `print` and others take for a stream.
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above


def raise_descriptor_limit() -> int:
    """Allow this process as many descriptors as it may allow itself; how many sessions that is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass  # then it stays as it is
    return max(1, int(soft * _SESSIONS_SHARE))
