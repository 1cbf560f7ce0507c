"""Errors that Python could raise nowhere: records in the log, not tracebacks among them."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

from elemta.runtime import get_logger, summarize

_log = get_logger(__name__)


@contextmanager
def unraisable_to_log() -> Generator[None, None, None]:
    """For the block, log what comes up in destructors and in callbacks of C libraries."""
    before = sys.unraisablehook
    sys.unraisablehook = _report
    try:
        yield
    finally:
        sys.unraisablehook = before


def _report(unraisable: sys.UnraisableHookArgs) -> None:
    error = unraisable.exc_value
    # A client asks in its ClientHello for a name that is no ASCII. `ssl` ends the handshake, which is told
    # like any other that failed, and reports its own error here, as often as a stranger likes.
    if isinstance(error, UnicodeDecodeError) and isinstance(unraisable.object, bytes):
        return
    text = summarize(error) if error is not None else unraisable.exc_type.__name__
    _log.error("an error that nobody could catch", error=text, where=unraisable.err_msg or "")
