"""Which addresses lead back to us."""

import pytest

from elemta.app.ourselves import Ourselves
from elemta.config import HostPort


def test_a_listener_at_one_address_is_that_address_and_port_only():
    ours = Ourselves([HostPort("127.0.0.9", 25)])
    assert ours.is_listener("127.0.0.9", 25)
    assert not ours.is_listener("127.0.0.9", 26)
    assert not ours.is_listener("127.0.0.1", 25)
    assert ours.is_address("127.0.0.9")
    assert not ours.is_address("127.0.0.1")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_listener_at_every_address_is_reached_at_all_of_the_machines(host: str):
    ours = Ourselves([HostPort(host, 25)])
    assert ours.is_listener("127.0.0.1", 25)
    assert ours.is_listener("127.3.4.5", 25)
    assert not ours.is_listener("127.0.0.1", 26)
    assert not ours.is_listener("192.0.2.77", 25)
    assert ours.is_address("127.0.0.1")
    assert not ours.is_address("192.0.2.77")


def test_a_reload_replaces_them():
    ours = Ourselves([HostPort("127.0.0.9", 25)])
    ours.replace([HostPort("127.0.0.8", 25)])
    assert not ours.is_listener("127.0.0.9", 25)
    assert ours.is_listener("127.0.0.8", 25)
