"""Whose a token is: what is asked, which answers count, and what an authorization server can do to us."""

import json
from pathlib import Path
from urllib.parse import parse_qs

import attrs
import h11
import pytest
import trio
import trio.testing

from elemta.auth import AuthFilesError, TokenOwner, TokensUnavailable, make_introspection
from elemta.auth.introspection import Introspection
from elemta.config import AuthConfig, ConfigError, parse_config

CONFIG = AuthConfig(introspection="http://127.0.0.1:9000/introspect?realm=a")
ACTIVE = {"active": True, "username": "Anna@example.org", "scope": "openid mail"}


def answer(body: object, status: str = "200 OK", extra: str = "") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{extra}\r\n".encode() + data


@attrs.define(eq=False)
class Server:
    """Gives one answer, and keeps what it was asked."""

    reply: bytes | None
    asked: list[tuple[str, int]] = attrs.field(factory=list)
    head: h11.Request | None = None
    form: dict[str, list[str]] = attrs.field(factory=dict)
    closed: bool = False

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        self.asked.append((host, port))
        ours, theirs = trio.testing.memory_stream_pair()
        trio.lowlevel.spawn_system_task(self._serve, theirs)
        await trio.lowlevel.checkpoint()
        return ours

    async def _serve(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some()))
            elif isinstance(event, h11.Request):
                self.head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return
        self.form = parse_qs(body.decode())
        if self.reply is None:
            await stream.receive_some()  # says nothing; ends when the client leaves
            self.closed = True
            return
        await stream.send_all(self.reply)
        await stream.aclose()


async def ask(reply: bytes | None, config: AuthConfig = CONFIG, authorization: str = "") -> TokenOwner | None:
    return await Introspection(config, authorization, None, Server(reply).connect)("t+k n")


async def test_the_question_is_that_of_rfc_7662() -> None:
    server = Server(answer(ACTIVE))
    asking = Introspection(CONFIG, "Basic eA==", None, server.connect)
    assert await asking("t+k/n=") == TokenOwner("anna@example.org")
    assert server.asked == [("127.0.0.1", 9000)]
    assert server.head is not None
    assert (server.head.method, server.head.target) == (b"POST", b"/introspect?realm=a")
    headers = dict(server.head.headers)
    assert headers[b"host"] == b"127.0.0.1:9000"
    assert headers[b"authorization"] == b"Basic eA=="
    assert server.form == {"token": ["t+k/n="], "token_type_hint": ["access_token"]}
    assert "eA==" not in repr(asking)


@pytest.mark.parametrize(
    ("changes", "config", "found"),
    [
        ({}, {}, True),
        ({"active": False}, {}, False),
        ({}, {"introspection_scope": "mail"}, True),
        ({}, {"introspection_scope": "mai"}, False),
        ({"scope": None}, {"introspection_scope": "mail"}, False),
        ({"scope": ["mail"]}, {"introspection_scope": "mail"}, False),
        ({"email": "anna@example.org"}, {"introspection_claim": "email"}, True),
        ({"username": "a\0b"}, {}, False),
    ],
)
async def test_who_is_the_owner(changes: dict[str, object], config: dict[str, str], found: bool) -> None:
    owner = await ask(answer({**ACTIVE, **changes}), attrs.evolve(CONFIG, **config))
    assert (owner is not None) is found
    if owner is not None:
        assert owner.name.lower() == "anna@example.org"


@pytest.mark.parametrize(
    "reply",
    [
        answer({}, "401 Unauthorized"),
        answer(ACTIVE, "500 Oops"),
        answer(ACTIVE, "302 Found", "Location: http://evil.example/\r\n"),
        answer(b"no json"),
        answer(b"[" * 60_000),
        answer([]),
        answer({"active": "true"}),
        answer({"active": True}),
        answer({"active": True, "username": 7}),
        answer(b"x" * 70_000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"220 mx.example.org ESMTP\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
    ],
    ids=range(14),
)
async def test_an_answer_that_makes_no_sense_is_a_failure_for_now(reply: bytes) -> None:
    with pytest.raises(TokensUnavailable) as caught:
        await ask(reply)
    assert "t+k" not in str(caught.value)


async def test_a_server_that_says_nothing_is_waited_for_so_long(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Server(None)
    with pytest.raises(TokensUnavailable, match="no answer in time"):
        await Introspection(CONFIG, "", None, server.connect)("token")
    assert trio.current_time() == pytest.approx(5)
    await trio.testing.wait_all_tasks_blocked()
    assert server.closed


async def test_a_server_that_is_not_there() -> None:
    async def refuse(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError("no")

    with pytest.raises(TokensUnavailable, match="cannot be reached: ConnectionRefusedError"):
        await Introspection(CONFIG, "", None, refuse)("token")


def test_the_secret_comes_from_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s:cr et\n")
    path.chmod(0o600)
    config = attrs.evolve(CONFIG, introspection_client="elemta", introspection_secret=path)
    made = make_introspection(config)
    assert isinstance(made, Introspection)
    assert made.authorization == "Basic ZWxlbXRhOnMlM0FjcitldA=="  # elemta:s%3Acr+et (RFC 6749 2.3.1)
    path.chmod(0o644)
    with pytest.raises(AuthFilesError, match="is open to others"):
        make_introspection(config)
    assert make_introspection(AuthConfig()) is None


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    config = AuthConfig(
        introspection="https://auth.example.org/", introspection_authorities=tmp_path / "none.pem"
    )
    with pytest.raises(AuthFilesError, match=r"none\.pem: cannot be used"):
        make_introspection(config)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://auth.example.org/", "shows secrets on the way"),
        ("ftp://127.0.0.1/", "shows secrets on the way"),
        ("https://user:pw@auth.example.org/", "has more than a host and a path"),
        ("https:///x", "is not a URL"),
        ("https://auth.example.org:0/", "is not a URL"),
        ("https://auth.example.org:x/", "is not a URL"),
        ("https://auth.example.org/a b", "is not a URL"),
    ],
)
def test_urls_that_are_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f'hostname = "mx.example.org"\n[auth]\nintrospection = "{url}"\n', "f")
    assert reason in str(caught.value)


@pytest.mark.parametrize("url", ["https://auth.example.org/x?y=z", "http://[::1]:8080/", "http://localhost/"])
def test_urls_that_are_taken(url: str) -> None:
    config = parse_config(f'hostname = "mx.example.org"\n[auth]\nintrospection = "{url}"\n', "f")
    assert config.auth.introspection == url


def test_a_name_and_its_secret_go_together() -> None:
    with pytest.raises(ConfigError, match="go together"):
        parse_config('hostname = "mx.example.org"\n[auth]\nintrospection_client = "x"\n', "f")
