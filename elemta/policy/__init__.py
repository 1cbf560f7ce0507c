"""Is this client welcome? Rates, DNS lists, reverse DNS, the name it gives, greylisting.

Not here: who may relay (`elemta.inbound`), how a refusal is sent, who a user is (`elemta.auth`).
"""

from .client import Client, Refusal
from .gate import Gate, GateStatistics
from .lists import ListStatistics
from .rates import RateStatistics
from .reverse import Iprev, ReverseName, look_up_reverse

__all__ = [
    "Client",
    "Gate",
    "GateStatistics",
    "Iprev",
    "ListStatistics",
    "RateStatistics",
    "Refusal",
    "ReverseName",
    "look_up_reverse",
]
