"""When and how a stream becomes private, and which certificates are shown for it.

Not here: when TLS is wanted or needed (`elemta.inbound`, `elemta.delivery`), the STARTTLS command.
"""

from .certificates import Certificate, read_certificate
from .chain import peer_certificates
from .contexts import TlsContexts
from .errors import TlsFailed, TlsFilesError, TlsTrouble
from .expiry import Expiring, ExpiryAlarm
from .handshakes import HandshakesStatistics
from .selfsigned import make_self_signed, write_pair
from .server import ServerContext
from .upgrade import start_tls
from .watch import FileWatcher

__all__ = [
    "Certificate",
    "Expiring",
    "ExpiryAlarm",
    "FileWatcher",
    "HandshakesStatistics",
    "ServerContext",
    "TlsContexts",
    "TlsFailed",
    "TlsFilesError",
    "TlsTrouble",
    "make_self_signed",
    "peer_certificates",
    "read_certificate",
    "start_tls",
    "write_pair",
]
