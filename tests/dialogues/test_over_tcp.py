"""The same dialogues with the whole server as a process of its own, over TCP on loopback.

Those that need other settings than a listener's own, or time, are left to the session in memory.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trustme
from ports import free_port
from proofs.servers import end, greets, wait_until

from .playing import Mismatch, Player, tls_with
from .reading import Dialogue, read_dialogues

pytestmark = [pytest.mark.proof, pytest.mark.deadline(600)]

FRIEND, STRANGER = "127.0.0.3", "127.0.0.2"
IDLE = 0.03
"""Seconds without a reply that count as silence."""
AT_ONCE = 8
KINDS = [
    ("mx", "off", "off"),
    ("mx", "starttls", "off"),
    ("mx", "implicit", "off"),
    ("lmtp", "off", "off"),
    ("lmtp", "starttls", "off"),
    ("submission", "off", "off"),
    ("submission", "starttls", "required"),
    ("submission", "starttls", "optional"),
    ("submission", "implicit", "required"),
]
"""Role, TLS and AUTH of the listeners."""


def _kind(dialogue: Dialogue) -> tuple[str, str, str]:
    settings = dialogue.settings
    return settings.get("role", "mx"), settings.get("tls", "off"), settings.get("auth", "off")


def playable() -> list[Dialogue]:
    return [
        dialogue
        for path in sorted(Path(__file__).parent.glob("*.dialogue"))
        for dialogue in read_dialogues(path)
        if _kind(dialogue) in KINDS
        and set(dialogue.settings) <= {"role", "tls", "auth", "peer"}
        and not any(step.kind == "wait" for step in dialogue.steps)
        # They name the address that the session in memory comes from
        and not any(step.kind == "prefix" for step in dialogue.steps)
    ]


@attrs.frozen
class Server:
    ports: dict[tuple[str, str, str], int]
    client_tls: ssl.SSLContext


def _configuration(folder: Path, ports: dict[tuple[str, str, str], int]) -> str:
    text = f"""
hostname = "mx.ours.example"
state_dir = "{folder}/state"
[tls]
certificate = "{folder}/cert.pem"
key = "{folder}/cert.pem"
[auth]
users = "{folder}/users"
failure_delay = "0s"
free_failures = 1000
[domains]
local = ["ours.example"]
relay = ["backup.example"]
[relay]
networks = ["{FRIEND}/32"]
[[routes]]
match = "*"
transport = "discard"
[limits]
sessions_per_client = 1000
"""
    for number, ((role, tls, auth), port) in enumerate(ports.items()):
        text += f"""
[[listeners]]
name = "l{number}"
address = "127.0.0.1:{port}"
role = "{role}"
tls = "{tls}"
auth = "{auth}"
"""
    return text


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("dialogues")
    authority = trustme.CA()
    authority.issue_cert("mx.ours.example").private_key_and_cert_chain_pem.write_to_path(f"{folder}/cert.pem")
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)
    ports = {kind: free_port() for kind in KINDS}
    path, log = folder / "elemta.toml", folder / "elemta.log"
    path.write_text(_configuration(folder, ports))
    elemta = [sys.executable, "-m", "elemta"]
    subprocess.run(
        [*elemta, "user", "add", "-c", str(path), "user@ours.example"],
        input="secret\nsecret\n",
        text=True,
        check=True,
        capture_output=True,
        timeout=60,
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*elemta, "run", "-c", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ,
        )
    try:
        plain = ports["mx", "off", "off"]
        wait_until(lambda: process.poll() is not None or greets(plain), "the banner of elemta")
        assert process.poll() is None, log.read_text()[-2000:]
        yield Server(ports, client_tls)
        assert process.poll() is None, log.read_text()[-2000:]
    finally:
        status = end(process)
    assert status == 0, log.read_text()[-2000:]
    text = log.read_text()
    assert "Traceback" not in text, text[-4000:]
    assert "task.crashed" not in text, text[-4000:]


async def _play(server: Server, dialogue: Dialogue) -> str:
    """What was wrong; empty for nothing."""
    sock = trio.socket.socket()
    try:
        with trio.fail_after(20):
            # All of a name's sessions have one address, as from one machine
            await sock.bind((FRIEND if dialogue.settings.get("peer") == "friend" else STRANGER, 0))
            await sock.connect(("127.0.0.1", server.ports[_kind(dialogue)]))
            player = Player(
                trio.SocketStream(sock), tls_with(server.client_tls), lambda: trio.sleep(IDLE), silence=IDLE
            )
            await player.play(dialogue, lambda step: None)
    except Mismatch as mismatch:
        return f"{dialogue.id}: {mismatch}"
    except trio.TooSlowError:
        return f"{dialogue.id}: no answer in time"
    finally:
        sock.close()
    return ""


async def test_the_whole_server_over_tcp(server: Server) -> None:
    dialogues = playable()
    assert len(dialogues) > 400
    waiting = iter(dialogues)
    wrong: list[str] = []

    async def work() -> None:
        for dialogue in waiting:
            if problem := await _play(server, dialogue):
                wrong.append(problem)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(work)
    assert not wrong, f"{len(wrong)} of {len(dialogues)}:\n" + "\n\n".join(wrong[:20])
