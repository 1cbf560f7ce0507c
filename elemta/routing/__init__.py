"""Where does this recipient live, and who may send there?

Not here: whether a client may relay (`elemta.inbound`), connecting (`elemta.delivery`).
"""

from .mx import MxPlan, plan_mx
from .prohibited import ProhibitedNetworks
from .recipients import RecipientsFileError
from .router import Destination, Fallback, Route, Router
from .srs import SrsSecretsError

__all__ = [
    "Destination",
    "Fallback",
    "MxPlan",
    "ProhibitedNetworks",
    "RecipientsFileError",
    "Route",
    "Router",
    "SrsSecretsError",
    "plan_mx",
]
