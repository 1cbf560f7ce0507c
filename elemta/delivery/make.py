"""From a route to its transport."""

from __future__ import annotations

from elemta.config import TransportKind
from elemta.routing import Route

from .context import DeliveryContext
from .discard import DiscardTransport
from .http import HttpTransport
from .lmtp import LmtpTransport
from .maildir import MaildirTransport
from .pipe import PipeTransport
from .smtp import SmtpTransport
from .transport import Transport


def make_transport(route: Route, context: DeliveryContext) -> Transport:
    """The transport that carries mail along this route."""
    match route.transport:
        case TransportKind.SMTP:
            return SmtpTransport(route, context)
        case TransportKind.LMTP:
            return LmtpTransport(route, context)
        case TransportKind.MAILDIR:
            return MaildirTransport(route, context)
        case TransportKind.PIPE:
            return PipeTransport(route, context)
        case TransportKind.HTTP:
            return HttpTransport(route, context)
        case TransportKind.DISCARD:
            return DiscardTransport()
