"""What elemta uses of pyspf."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

DNSLookup: Callable[..., list[tuple[tuple[str, str], Any]]]

class TempError(Exception):
    msg: str

class PermError(Exception):
    msg: str

class query:
    s: str
    l: str
    o: str
    d: str
    h: str
    i: str
    c: str
    v: str
    r: str
    t: str
    p: str | None
    A: str
    ipaddr: IPv4Address | IPv6Address
    cidrmax: int
    prob: str
    mechanism: str | None
    def __init__(self, i: str, s: str, h: str, receiver: str | None = None) -> None: ...
    def check(self) -> tuple[str, int, str]: ...
    def check0(self, spf: str | None, recursion: int) -> tuple[str, int, str]: ...
    def set_default_explanation(self, exp: str) -> None: ...
    def getp(self) -> str: ...
    def expand_domain(self, arg: str) -> str: ...
    def expand(self, s: str, stripdot: bool = True) -> str: ...
    def validate_mechanism(self, mech: str) -> tuple[Any, ...]: ...
    def dns(
        self, name: str, qtype: str, cnames: dict[str, str] | None = None, ignore_void: bool = False
    ) -> list[Any]: ...
    def cidrmatch(self, ipaddrs: list[str], n: int) -> bool: ...
    def dns_ptr(self, i: str) -> list[str]: ...
    def dns_a(self, domainname: str, A: str = "A") -> list[str]: ...
    def validated_ptrs(self) -> list[str]: ...
