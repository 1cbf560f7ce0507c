"""Certificates for the dialogues that begin TLS."""

import ssl
from types import SimpleNamespace

import pytest
import trustme


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> SimpleNamespace:
    """What sessions use of TlsContexts: the server's context."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("mx.ours.example").configure_cert(context)
    return SimpleNamespace(server=context)


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
