"""Asks the policy about one session's client, and tells what it finds."""

from __future__ import annotations

from elemta.events import SessionNoted
from elemta.mail import Identity, Mailbox, ReversePath
from elemta.policy import Client, Gate, Refusal

from .context import Services


class Judge:
    """One client before the gate. Make another one when the client turns out to be another (XCLIENT).

    Cancelling a question leaves nothing half done.
    """

    __slots__ = ("_client", "_gate", "_services", "_session")

    def __init__(self, gate: Gate, services: Services, session: str, client: Client) -> None:
        self._gate = gate
        self._services = services
        self._session = session
        self._client = client

    def identify(self, identity: Identity | None) -> None:
        """The client has proved who it is, or that counts no longer."""
        self._client.identity = identity

    def greeting_delay(self) -> float:
        """Seconds to wait before the greeting, watching for octets of the client."""
        return self._gate.greeting_delay(self._client)

    def accepted(self, recipients: int, octets: int) -> None:
        """A message was stored, for so many recipients and of that size."""
        self._gate.accepted(self._client, recipients, octets)
        self._tell()

    def hold(self, message: str, recipients: int) -> str | None:
        """A message is about to be stored: why it is to be held, or None."""
        return self._gate.hold(self._client, message, recipients)

    def early_talker(self) -> Refusal | None:
        """It spoke before it was greeted."""
        refusal = self._gate.early_talker(self._client)
        self._tell()
        return refusal

    async def connected(self) -> Refusal | None:
        """It has connected."""
        refusal = await self._gate.connected(self._client)
        self._tell()
        return refusal

    async def hello(self, name: str) -> Refusal | None:
        """It says HELO, EHLO or LHLO."""
        refusal = await self._gate.hello(self._client, name)
        self._tell()
        return refusal

    async def sender(self, path: ReversePath) -> Refusal | None:
        """It says MAIL, and nothing here is against it."""
        refusal = await self._gate.sender(self._client, path)
        self._tell()
        return refusal

    async def recipient(self, path: ReversePath, mailbox: Mailbox | None) -> Refusal | None:
        """It says RCPT, and may relay there. No mailbox: the bare `<postmaster>`."""
        route = ""
        if mailbox is not None and self._gate.by_route:
            route = str(self._services.router.route(mailbox))
        refusal = await self._gate.recipient(self._client, path, mailbox, route)
        self._tell()
        return refusal

    def _tell(self) -> None:
        for check, finding in self._client.take_fresh_notes().items():
            self._services.bus.publish(
                SessionNoted(
                    time=self._services.clock.time(), session=self._session, check=check, finding=finding
                )
            )
