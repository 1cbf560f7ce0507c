"""What the API looks at and steers, one module per kind of thing."""

from .accounts import account_operations
from .control import control_operations
from .destinations import destination_operations
from .dns import dns_operations
from .flights import flight_operations
from .messages import message_operations
from .queue import parse_selection, queue_operations
from .server import server_operations
from .suppression import SuppressedWish, list_address, list_entry, suppression_operations

__all__ = [
    "SuppressedWish",
    "account_operations",
    "control_operations",
    "destination_operations",
    "dns_operations",
    "flight_operations",
    "list_address",
    "list_entry",
    "message_operations",
    "parse_selection",
    "queue_operations",
    "server_operations",
    "suppression_operations",
]
