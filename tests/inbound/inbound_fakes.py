"""An authenticator and a policy whose verdicts are scripted."""

import base64
from typing import Any

import attrs
import trio

from elemta.auth import Accepted, AuthClient, Challenge, Refused, StoreUnavailable
from elemta.mail import Identity, Mailbox, Reply, ReversePath, replies
from elemta.policy import Client, Refusal


def b64(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return base64.b64encode(data).decode()


PLAIN_ALICE = b64("\0alice@ours.example\0secret")


@attrs.define
class FakeExchange:
    mechanism: str
    authenticator: "FakeAuthenticator"
    name: str = ""

    async def step(self, response: bytes | None) -> Any:
        self.authenticator.responses.append(response)
        await trio.sleep(self.authenticator.seconds)
        if len(self.authenticator.responses) > 1 and response is None:
            return Refused(replies.AUTH_CANCELLED, "cancelled")
        if self.mechanism == "LOGIN":
            if response is None:
                return Challenge(b"Username:")
            if not self.name:
                self.name = response.decode()
                return Challenge(b"Password:")
            return self._decide(self.name, response.decode())
        if response is None:
            return Challenge(b"")
        try:
            _, name, secret = response.decode().split("\0")
        except ValueError:
            return Refused(replies.AUTH_MALFORMED, "malformed")
        return self._decide(name, secret)

    def _decide(self, name: str, secret: str) -> Any:
        if secret != "secret":
            return Refused(replies.AUTH_FAILED, "wrong secret", name)
        return Accepted(Identity(name, self.mechanism))


@attrs.define
class FakeAuthenticator:
    """Everybody's password is `secret`; an account may send as itself."""

    seconds: float = 0.0
    in_clear: tuple[str, ...] = ("PLAIN", "LOGIN")
    under_tls: tuple[str, ...] = ("PLAIN", "LOGIN")
    clients: list[AuthClient] = attrs.field(factory=list)
    responses: list[bytes | None] = attrs.field(factory=list)
    looked_up: list[str] = attrs.field(factory=list)
    down: bool = False
    """The store does not answer."""

    def mechanisms(self, client: AuthClient) -> tuple[str, ...]:
        return self.under_tls if client.tls else self.in_clear

    def mechanisms_under_tls(self, client: AuthClient) -> tuple[str, ...]:
        return () if client.tls else tuple(each for each in self.under_tls if each not in self.in_clear)

    def begin(self, mechanism: str, client: AuthClient) -> FakeExchange:
        self.clients.append(client)
        self.responses.clear()
        return FakeExchange(mechanism, self)

    async def look_up(self, identity: Identity) -> None:
        self.looked_up.append(identity.name)
        await trio.sleep(self.seconds)
        if self.down:
            raise StoreUnavailable("auth.ldap: no answer in time")

    def may_send_as(self, identity: Identity, mailbox: Mailbox) -> bool:
        return identity.name == str(mailbox)


@attrs.define
class FakeGate:
    """Refuses at the steps that have a refusal; remembers what it was asked."""

    refusals: dict[str, Refusal] = attrs.field(factory=dict)
    holds: str | None = None
    delay: float = 0.0
    seconds: float = 0.0
    asked: list[tuple[Any, ...]] = attrs.field(factory=list)
    notes: dict[str, str] = attrs.field(factory=dict)
    clients: list[Client] = attrs.field(factory=list)
    by_route: bool = False

    def refuse(self, step: str, reply: Reply) -> None:
        self.refusals[step] = Refusal(reply, f"test: {step}")

    async def _step(self, client: Client, step: str, *what: Any) -> Refusal | None:
        self.asked.append((step, *what))
        if client not in self.clients:
            self.clients.append(client)
        await trio.sleep(self.seconds)
        if step in self.notes:
            client.note(step, self.notes[step])
        return self.refusals.get(step)

    async def connected(self, client: Client) -> Refusal | None:
        return await self._step(client, "connected", client.peer)

    def greeting_delay(self, client: Client) -> float:
        return self.delay

    def early_talker(self, client: Client) -> Refusal | None:
        self.asked.append(("early_talker",))
        return self.refusals.get("early_talker")

    async def hello(self, client: Client, name: str) -> Refusal | None:
        client.hello = name
        return await self._step(client, "hello", name)

    async def sender(self, client: Client, path: ReversePath) -> Refusal | None:
        return await self._step(client, "sender", str(path))

    async def recipient(
        self, client: Client, path: ReversePath, mailbox: Mailbox | None, route: str = ""
    ) -> Refusal | None:
        refusal = await self._step(client, "recipient", str(path), mailbox and str(mailbox))
        return None if mailbox is None else refusal

    def hold(self, client: Client, message: str, recipients: int) -> str | None:
        return self.holds

    def accepted(self, client: Client, recipients: int, octets: int = 0) -> None:
        self.asked.append(("accepted", recipients))
