"""TLS contexts of both sides, from the configuration; replaced as a whole when certificates change."""

from __future__ import annotations

import copy
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import attrs

from elemta.config import ListenerConfig, TlsConfig
from elemta.runtime import harden

from .certificates import Certificate
from .errors import TlsFilesError
from .handshakes import Handshakes, HandshakesStatistics
from .server import ServerContext, load_authorities, server_contexts

OPPORTUNISTIC_SUITES = "DEFAULT:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=1"
"""For next hops that may be sent plain text as well: old encryption is better than none (RFC 7435)."""

Signature: TypeAlias = tuple[tuple[int, int, int, int] | None, ...]
"""Device, inode, size and time of each file; None where there is none."""


@attrs.frozen(eq=False)
class _Loaded:
    """All that came from one reading of the files."""

    config: TlsConfig
    signature: Signature
    server: ServerContext | None
    asking: ServerContext | None
    """The same, but it asks clients for a certificate."""
    certificates: tuple[Certificate, ...]
    verifying: ssl.SSLContext
    opportunistic: ssl.SSLContext


@attrs.define(eq=False)
class _Current:
    """What is in use, shared by all views on it."""

    loaded: _Loaded
    handshakes: Handshakes


class TlsContexts:
    """The contexts in use. Take one anew for each connection: a reload swaps them.

    `authorities` is a PEM file of certificate authorities to trust in place of the system's.

    Raises:
      TlsFilesError: of the constructor, of `prepare` and of `reload`; then nothing has changed.
    """

    def __init__(self, config: TlsConfig, *, authorities: Path | None = None) -> None:
        self._authorities = authorities
        self._asks = False
        handshakes = Handshakes(config.handshakes)
        self._current = _Current(self._load(config, handshakes), handshakes)

    @property
    def config(self) -> TlsConfig:
        return self._current.loaded.config

    @property
    def server(self) -> ServerContext | None:
        """For those who connect to us; `None` without a certificate."""
        loaded = self._current.loaded
        return loaded.asking if self._asks else loaded.server

    def for_listener(self, listener: ListenerConfig) -> TlsContexts:
        """The same contexts as this listener uses them; a reload of either is one of both."""
        view = copy.copy(self)
        view._asks = listener.client_certificates
        return view

    def client(self, verify: bool) -> ssl.SSLContext:
        """For next hops: with `verify` their certificate must be valid and bear the name asked for."""
        loaded = self._current.loaded
        return loaded.verifying if verify else loaded.opportunistic

    def certificates(self) -> tuple[Certificate, ...]:
        """Those that clients are shown, the default one first."""
        return self._current.loaded.certificates

    def handshakes(self) -> HandshakesStatistics:
        """How many handshakes of the server's side run and wait."""
        return self._current.handshakes.statistics()

    def reload(self, config: TlsConfig | None = None) -> None:
        """Read all files again (those of a new configuration, if given). Open connections go on as they are.

        Either everything is replaced or, with an error, nothing is. Reads files and takes some
        milliseconds: where that matters, `prepare` in a thread.
        """
        self.prepare(config)()

    def prepare(self, config: TlsConfig | None = None) -> Callable[[], None]:
        """Read all files; what is returned puts them into use. That is sync and cannot fail."""
        current = self._current
        fresh = self._load(current.loaded.config if config is None else config, current.handshakes)

        def swap() -> None:
            current.loaded = fresh
            current.handshakes.resize(fresh.config.handshakes)

        return swap

    def is_stale(self) -> tuple[bool, Signature]:
        """Whether the files are no longer those in use, and what they are now. Asks the disk."""
        loaded = self._current.loaded
        signature = _signature(loaded.config)
        return signature != loaded.signature, signature

    def _load(self, config: TlsConfig, handshakes: Handshakes) -> _Loaded:
        signature = _signature(config)
        contexts = server_contexts(config, handshakes)
        asking: tuple[ServerContext, ...] = ()
        if config.client_authorities is not None:
            asking = server_contexts(config, handshakes, authorities=config.client_authorities)
        if config.certificate is not None and _signature(config) != signature:
            # Facts and contexts come from different readings, and must not differ.
            raise TlsFilesError(config.certificate, "it, or what belongs to it, changed while it was read")
        return _Loaded(
            config=config,
            signature=signature,
            server=contexts[0] if contexts else None,
            asking=asking[0] if asking else None,
            certificates=tuple(context.certificate for context in contexts),
            verifying=_verifying_context(self._authorities),
            opportunistic=_opportunistic_context(),
        )


def _paths(config: TlsConfig) -> Iterator[Path]:
    pairs = [(config.certificate, config.key)] + [
        (further.certificate, further.key) for further in config.certificates
    ]
    for pair in pairs:
        yield from (path for path in pair if path is not None)
    if config.client_authorities is not None:
        yield config.client_authorities


def _signature(config: TlsConfig) -> Signature:
    """Through symbolic links: ACME clients change where they lead."""
    found: list[tuple[int, int, int, int] | None] = []
    for path in _paths(config):
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _verifying_context(authorities: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
    harden(context)
    if authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        load_authorities(context, authorities)
    return context


def _opportunistic_context() -> ssl.SSLContext:
    # RFC 7435: whoever would be sent plain text needs no proof of who he is
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(OPPORTUNISTIC_SUITES)
    harden(context)
    return context
