"""Where does this recipient live, and who may send there?

Not here: whether a client may relay (`elemta.inbound`), connecting (`elemta.delivery`).
"""

from .mx import MxPlan, plan_mx
from .prohibited import ProhibitedNetworks
from .recipients import RecipientsFileError
from .recipientstore import RecipientsChange, RecipientsUnavailable, edit_recipients
from .router import Destination, Fallback, Found, Route, Router
from .srs import SrsSecretsError
from .tables import DomainTable

__all__ = [
    "Destination",
    "DomainTable",
    "Fallback",
    "Found",
    "MxPlan",
    "ProhibitedNetworks",
    "RecipientsChange",
    "RecipientsFileError",
    "RecipientsUnavailable",
    "Route",
    "Router",
    "SrsSecretsError",
    "edit_recipients",
    "plan_mx",
]
