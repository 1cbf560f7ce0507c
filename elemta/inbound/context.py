"""What all sessions of a listener share."""

from __future__ import annotations

from random import Random

import attrs

from elemta import smtp
from elemta.auth import Authenticator
from elemta.config import Config, LineEndPolicy, ListenerAuth, ListenerConfig, ListenerRole, NulPolicy
from elemta.delivery import Verifier
from elemta.events import EventBus, FlightRecorder, TaskCrashed
from elemta.mail import Domain, make_id, parse_domain
from elemta.plugin import PluginHost
from elemta.policy import Gate, Notary
from elemta.routing import Router
from elemta.runtime import Drain, LoadGauge, WallClock, summarize
from elemta.spool import Spool
from elemta.tls import TlsContexts

from .kept_senders import KeptSenders
from .offers import Offers

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
    authenticator: Authenticator | None = None
    """None: nobody can log in."""
    gate: Gate | None = None
    """None: every client is welcome."""
    notary: Notary | None = None
    """None: messages are neither checked nor signed."""
    plugins: PluginHost | None = None
    """None: no plugin is asked about sessions."""
    load: LoadGauge | None = None
    """None: there is never too much to do."""
    flights: FlightRecorder | None = None
    """Who keeps what was said in sessions that failed."""

    verifier: Verifier | None = None
    """None: next hops are not asked about recipients."""
    kept_senders: KeptSenders | None = None
    """None: senders that are too long are not rewritten."""

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

    @property
    def has_certificate(self) -> bool:
        """Whether TLS can begin now; a reload may change it."""
        return self.tls is not None and self.tls.server is not None


@attrs.frozen(eq=False)
class SessionContext:
    """The settings of one listener's sessions and the services they use."""

    config: Config
    listener: ListenerConfig
    services: Services
    smtp_limits: smtp.Limits
    dialect: smtp.Dialect
    offers: Offers
    message_size: int
    """Octets of a message at most."""
    recipients: int
    """In one transaction at most."""
    longest_hold: float
    """Seconds for which a message may be held back (RFC 4865)."""

    @property
    def lmtp(self) -> bool:
        return self.listener.role is ListenerRole.LMTP

    @property
    def authenticator(self) -> Authenticator | None:
        """None where the listener has no AUTH."""
        return self.services.authenticator if self.listener.auth is not ListenerAuth.OFF else None


def _own_domain(config: Config) -> Domain | None:
    """What completes an address of a user that has no domain."""
    if config.submission.domain is not None:
        return config.submission.domain
    if config.domains.local:
        return config.domains.local[0]
    hostname = parse_domain(config.hostname)
    return hostname if isinstance(hostname, Domain) else None


def make_context(config: Config, listener: ListenerConfig, services: Services) -> SessionContext:
    """Derive once what every session of the listener would derive."""
    limits = config.limits
    message_size = limits.message_size if listener.message_size is None else listener.message_size
    recipients = limits.recipients if listener.recipients is None else listener.recipients
    longest_hold = listener.future_release
    if longest_hold is None:
        longest_hold = limits.future_release if listener.role is ListenerRole.SUBMISSION else 0.0
    return SessionContext(
        config=config,
        listener=listener,
        services=services,
        smtp_limits=smtp.Limits(
            command_line=limits.command_line,
            message_size=message_size,
            text_line=limits.text_line,
            header_size=limits.header_size,
            repair_line_ends=limits.line_ends is LineEndPolicy.REPAIR,
            repair_nul=limits.nul is NulPolicy.REPAIR,
        ),
        dialect=smtp.Dialect(
            blank_before_path=limits.blank_before_path,
            default_domain=_own_domain(config) if listener.role is ListenerRole.SUBMISSION else None,
        ),
        offers=Offers(
            config,
            listener,
            message_size=message_size,
            recipients=recipients,
            longest_hold=longest_hold,
        ),
        message_size=message_size,
        recipients=recipients,
        longest_hold=longest_hold,
    )
