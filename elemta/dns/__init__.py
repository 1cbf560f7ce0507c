"""Answers of DNS with their truth value, from a cache that asks once for all who wait.

The only importer of dnspython (besides the test server in `elemta.testing.dns`).

Not here: what an answer means for mail (`elemta.routing`, `elemta.policy`), DNSSEC validation (left to
a validating resolver on this machine), `/etc/hosts`.
"""

from .addresses import HostAddresses, addresses, as_address, is_host_address, is_localhost
from .answers import Answer, MxRecord, Record, RecordKind, Status, TlsaRecord
from .cache import CachedAnswer, CacheStatistics, CachingResolver, open_resolver
from .client import DnsResolver, DnsStatistics
from .names import normalize_name
from .resolver import Resolver
from .reverse import AsksDns, Iprev, ReverseName, look_up_reverse, reverse_name, reversed_labels

__all__ = [
    "Answer",
    "AsksDns",
    "CacheStatistics",
    "CachedAnswer",
    "CachingResolver",
    "DnsResolver",
    "DnsStatistics",
    "HostAddresses",
    "Iprev",
    "MxRecord",
    "Record",
    "RecordKind",
    "Resolver",
    "ReverseName",
    "Status",
    "TlsaRecord",
    "addresses",
    "as_address",
    "is_host_address",
    "is_localhost",
    "look_up_reverse",
    "normalize_name",
    "open_resolver",
    "reverse_name",
    "reversed_labels",
]
