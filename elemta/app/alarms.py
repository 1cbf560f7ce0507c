"""Tells postmaster that an account does not send like itself: an event at once, and a message of our own."""

from __future__ import annotations

from random import Random

import attrs
import trio

from elemta.config import BreakerAction, Config
from elemta.events import (
    AccountSuspicious,
    CommandRejected,
    Event,
    EventBus,
    RecipientFailed,
    SessionAuthenticated,
    SessionClosed,
)
from elemta.mail import (
    NULL_PATH,
    Envelope,
    MailSyntaxError,
    MessageId,
    Origin,
    Recipient,
    date,
    make_id,
    parse_mailbox,
)
from elemta.policy import Breaker, Notary
from elemta.runtime import WallClock, escape_text, get_logger
from elemta.spool import Spool, SpoolError

WAITING = 100
"""Alarms that wait to be stored; what is more is told by its event alone."""
_RANDOM_BITS = 35
_NO_SUCH_USER = " 5.1.1 "
"""RFC 3463 §3.2. What else we refuse says nothing about who has guessed the address."""

_log = get_logger(__name__)


@attrs.frozen
class _Alarm:
    account: str
    finding: str
    held: bool


class Alarms:
    """Between the breaker, which must not wait, and the spool."""

    def __init__(self, config: Config, spool: Spool, bus: EventBus, clock: WallClock, random: Random) -> None:
        self._config = config
        self._spool = spool
        self._bus = bus
        self._clock = clock
        self._random = random
        self._send, self._receive = trio.open_memory_channel[_Alarm](WAITING)

    def replace(self, config: Config) -> None:
        """Work by another configuration from now on (reload)."""
        self._config = config

    def tell(self, account: str, finding: str) -> None:
        """The breaker has tripped. Sync, never raises."""
        held = self._config.policy.breaker.action is BreakerAction.HOLD
        self._bus.publish(
            AccountSuspicious(time=self._clock.time(), account=account, finding=finding, held=held)
        )
        try:
            self._send.send_nowait(_Alarm(account, finding, held))
        except (trio.WouldBlock, trio.BrokenResourceError):
            _log.warning("no message to postmaster about a suspicious account", account=account)

    async def run(self, notary: Notary) -> None:
        """Store the messages to postmaster until cancelled. Run it supervised."""
        async for alarm in self._receive:
            await self._store(alarm, notary)

    async def _store(self, alarm: _Alarm, notary: Notary) -> None:
        config, now = self._config, self._clock.time()
        message = MessageId(make_id(int(now * 1000), self._random.getrandbits(_RANDOM_BITS)))
        postmaster = config.postmaster or f"postmaster@{config.hostname}"
        text = write_alarm(
            alarm.account,
            alarm.finding,
            held=alarm.held,
            hostname=config.hostname,
            postmaster=postmaster,
            message=message,
            now=now,
        )
        try:
            draft = self._spool.new_draft(message)
            try:
                await draft.write(text)
                await self._spool.commit(
                    draft,
                    message=message,
                    envelope=Envelope(NULL_PATH, (Recipient(parse_mailbox(postmaster)),)),
                    origin=Origin(session="", peer="local", hello=config.hostname, protocol="LOCAL"),
                    prefix=notary.sign_own(text),
                )
            finally:
                draft.discard()
        except (SpoolError, MailSyntaxError) as error:
            _log.error("no message to postmaster about a suspicious account", error=str(error))


def write_alarm(
    account: str,
    finding: str,
    *,
    held: bool,
    hostname: str,
    postmaster: str,
    message: MessageId,
    now: float,
) -> bytes:
    """The message, in ASCII."""
    name = escape_text(account).encode("ascii", "replace").decode("ascii")
    what = (
        f"Its mail is accepted and held. Look at it, then\r\n\r\n    elemta user release {name}\r\n\r\n"
        f"lets the account send again and its mail go, or\r\n\r\n    elemta user purge {name}\r\n\r\n"
        "lets it send again and removes what is held. Give it a new password first: elemta user passwd."
        if held
        else "Its mail goes on: policy.breaker.action is not hold."
    )
    lines = (
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>",
        f"To: <{postmaster}>",
        f"Date: {date(now)}",
        f"Message-ID: <{message}@{hostname}>",
        "Subject: An account does not send like itself",
        "Auto-Submitted: auto-generated",  # RFC 3834 §5
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"The account {name} does not send as it usually does:",
        finding,
        "",
        what,
        "",
    )
    return "\r\n".join(lines).encode("ascii")


def watch_refusals(bus: EventBus, breaker: Breaker) -> None:
    """Let the breaker know which recipients next hops refuse, and which of an account's we do."""
    accounts: dict[str, str] = {}  # of the sessions that have one

    def on_event(event: Event) -> None:
        match event:
            case RecipientFailed(expired=False):
                breaker.refused(event.message)
            case SessionAuthenticated():
                accounts[event.session] = event.account
            case SessionClosed():
                accounts.pop(event.session, None)
            case CommandRejected(verb="RCPT") if event.session in accounts and _NO_SUCH_USER in event.reply:
                breaker.refused_for(accounts[event.session])

    bus.observe("breaker", on_event)
