"""When and how a stream becomes private.

Not here: when TLS is wanted or needed (`elemta.inbound`, `elemta.delivery`), the STARTTLS command.
"""

from .contexts import TlsContexts, TlsFilesError
from .upgrade import TlsFailed, start_tls

__all__ = [
    "TlsContexts",
    "TlsFailed",
    "TlsFilesError",
    "start_tls",
]
