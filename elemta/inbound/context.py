"""What all sessions of a listener share."""

from __future__ import annotations

from random import Random

import attrs

from elemta import smtp
from elemta.config import Config, LineEndPolicy, ListenerConfig, ListenerRole, ListenerTls
from elemta.events import EventBus, TaskCrashed
from elemta.mail import make_id
from elemta.routing import Router
from elemta.runtime import Drain, WallClock, summarize
from elemta.spool import Spool
from elemta.tls import TlsContexts

_ID_RANDOM_BITS = 35


@attrs.frozen(eq=False)
class Services:
    """What the sessions of all listeners use."""

    spool: Spool
    router: Router
    bus: EventBus
    clock: WallClock
    random: Random
    drain: Drain
    tls: TlsContexts | None = None

    def make_id(self) -> str:
        """A fresh id for a session or a message."""
        return make_id(int(self.clock.time() * 1000), self.random.getrandbits(_ID_RANDOM_BITS))

    def report_crash(self, task: str, error: BaseException, *, session: str = "", message: str = "") -> None:
        """Tell that something crashed and was contained."""
        self.bus.publish(
            TaskCrashed(
                time=self.clock.time(), task=task, error=summarize(error), session=session, message=message
            )
        )


@attrs.frozen(eq=False)
class SessionContext:
    """The settings of one listener's sessions and the services they use."""

    config: Config
    listener: ListenerConfig
    services: Services
    smtp_limits: smtp.Limits
    capabilities: smtp.Capabilities
    """In clear text, before STARTTLS is added."""
    starttls_capabilities: smtp.Capabilities

    @property
    def lmtp(self) -> bool:
        return self.listener.role is ListenerRole.LMTP

    def capabilities_now(self, *, tls: bool) -> smtp.Capabilities:
        """What is offered: STARTTLS only where there is a certificate now and no TLS yet (RFC 3207 §4.2)."""
        contexts = self.services.tls
        if (
            tls
            or self.listener.tls is not ListenerTls.STARTTLS
            or contexts is None
            or contexts.server is None
        ):
            return self.capabilities
        return self.starttls_capabilities


def make_context(config: Config, listener: ListenerConfig, services: Services) -> SessionContext:
    """Derive once what every session of the listener would derive."""
    limits = config.limits
    capabilities = smtp.Capabilities(
        pipelining=True,
        size=limits.message_size,
        eight_bit_mime=True,
        enhanced_status_codes=True,
        smtputf8=True,
        help=True,
    )
    return SessionContext(
        config=config,
        listener=listener,
        services=services,
        smtp_limits=smtp.Limits(
            command_line=limits.command_line,
            message_size=limits.message_size,
            text_line=limits.text_line,
            header_size=limits.header_size,
            repair_line_ends=limits.line_ends is LineEndPolicy.REPAIR,
        ),
        capabilities=capabilities,
        starttls_capabilities=attrs.evolve(capabilities, starttls=True),
    )
