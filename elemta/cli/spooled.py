"""Asks the running server, or the spool itself where none runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, STORAGE, TRY_LATER, Trouble

if TYPE_CHECKING:
    from elemta.config import Config
    from elemta.mail import MessageId
    from elemta.spool import QueueFilter, StoreReader


def checked_id(message: str) -> MessageId:
    """A message id as it was typed."""
    from elemta.mail import MessageId, is_id  # noqa: PLC0415

    if not is_id(message):
        raise Trouble(NOT_DONE, "that is no message id: ids have 16 letters and digits, as in 'queued as ID'")
    return MessageId(message)


def ask(config: Config, online: Callable[[AdminClient], Any], offline: Callable[[StoreReader], Any]) -> Any:
    """From the server where one runs, else from the spool itself."""
    from elemta.spool import open_readonly_spool  # noqa: PLC0415

    try:
        return online(AdminClient(config.state_dir))
    except NotRunning:
        with storage_trouble(config), open_readonly_spool(config.state_dir) as reader:
            return offline(reader)


@contextmanager
def storage_trouble(config: Config) -> Generator[None, None, None]:
    """What the spool cannot do, as the end of the command."""
    from elemta.spool import SpoolError, SpoolForeign, SpoolInUse  # noqa: PLC0415

    try:
        yield
    except SpoolInUse as error:
        raise Trouble(TRY_LATER, str(error)) from error
    except SpoolForeign as error:
        raise Trouble(STORAGE, str(error)) from error
    except SpoolError as error:
        raise Trouble(STORAGE, f"{config.state_dir}: {error}") from error


def parsed(config: Config, selection: dict[str, Any]) -> QueueFilter:
    """The filter of a selection, by this configuration's routes and the time now."""
    from elemta.admin import BadRequest, Selection, parse_selection  # noqa: PLC0415
    from elemta.queue import route_test  # noqa: PLC0415
    from elemta.routing import Router  # noqa: PLC0415

    router = Router(config)
    try:
        return parse_selection(
            Selection(**selection), now=time.time(), test_of=lambda route: route_test(router, route)
        )
    except BadRequest as error:
        raise Trouble(NOT_DONE, str(error)) from error
