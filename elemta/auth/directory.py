"""One conversation with an LDAP server (RFC 4511): STARTTLS, bind, search, on a Trio stream."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TypeVar

import attrs
import sansldap
import trio

R = TypeVar("R", bound=sansldap.LDAPMessage)

MAX_ANSWER = 256 * 1024
"""Octets of all that a server says to one question."""
MAX_ENTRIES = 2
"""One is an account, two are a mistake; more need not be sent."""

_REFUSED = frozenset(
    {
        sansldap.LDAPResultCode.INVALID_CREDENTIALS,
        sansldap.LDAPResultCode.INAPPROPRIATE_AUTHENTICATION,
        sansldap.LDAPResultCode.NO_SUCH_OBJECT,
    }
)
"""Results of a bind that say no to name and password (RFC 4513 §5.1), not that the server is in trouble."""


class DirectoryFailed(Exception):
    """The server cannot be asked, or said what makes no sense; the text is for the operator."""


@attrs.frozen
class Entry:
    """What a search found."""

    name: str
    """Its distinguished name."""
    attributes: dict[str, tuple[str, ...]]
    """Text values by the name of the attribute, in small letters."""


class Conversation:
    """Takes one question after the other. Cancelled in one, it is of no more use: close the stream.

    All methods raise DirectoryFailed.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._session = sansldap.LDAPClient()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Go on under TLS, with a certificate for the host (RFC 4511 §4.14)."""
        name = sansldap.ExtendedOperations.LDAP_START_TLS.value
        answer = await self._ask(lambda: self._session.extended_request(name), sansldap.ExtendedResponse)
        if answer.result.result_code != sansldap.LDAPResultCode.SUCCESS:
            raise DirectoryFailed(f"no STARTTLS: {_said(answer.result)}")
        self.stream = trio.SSLStream(self.stream, context, server_hostname=host, https_compatible=True)

    async def bind(self, name: str, password: str) -> bool:
        """Whether the entry of that name has that password."""
        if not name or not password:
            # RFC 4513 §5.1.2: with an empty one it is no login, and the server says yes
            return False
        answer = await self._ask(lambda: self._session.bind_simple(name, password), sansldap.BindResponse)
        if answer.result.result_code == sansldap.LDAPResultCode.SUCCESS:
            return True
        if answer.result.result_code in _REFUSED:
            return False
        raise DirectoryFailed(f"bind: {_said(answer.result)}")

    async def search(self, base: str, filter: sansldap.LDAPFilter, attributes: list[str]) -> list[Entry]:
        """The entries below `base`, at most two. Referrals are not followed."""
        found: list[Entry] = []

        def send() -> int:
            return self._session.search_request(
                base, size_limit=MAX_ENTRIES, filter=filter, attributes=attributes or ["1.1"]
            )

        answer = await self._ask(send, sansldap.SearchResultDone, found)
        code = answer.result.result_code
        if code not in (sansldap.LDAPResultCode.SUCCESS, sansldap.LDAPResultCode.SIZE_LIMIT_EXCEEDED):
            raise DirectoryFailed(f"search: {_said(answer.result)}")
        return found

    async def _ask(self, send: Callable[[], int], kind: type[R], found: list[Entry] | None = None) -> R:
        """Send a question and wait for the last answer to it."""
        try:
            id = send()
            await self.stream.send_all(self._session.data_to_send())
            octets = 0
            while True:
                data = await self.stream.receive_some(16384)
                octets += len(data)
                if not data:
                    raise DirectoryFailed("the connection ended")
                if octets > MAX_ANSWER:
                    raise DirectoryFailed("the answer is too long")
                for message in self._session.receive(data):
                    if message.message_id != id:
                        continue
                    if isinstance(message, kind):
                        return message
                    if found is not None and isinstance(message, sansldap.SearchResultEntry):
                        found.append(_entry(message))
                        if len(found) > MAX_ENTRIES:
                            raise DirectoryFailed("more entries than were asked for")
        except (OSError, trio.BrokenResourceError, ssl.SSLError) as error:
            raise DirectoryFailed(f"cannot be reached: {type(error).__name__}") from error
        except (sansldap.LDAPError, ValueError) as error:
            raise DirectoryFailed("does not speak LDAP") from error


def account_filter(template: str, name: str) -> sansldap.LDAPFilter:
    """The filter for an account. In a name each character that may mean something is escaped (RFC 4515 §3).

    Raises:
      ValueError: the template is no filter.
    """
    local_part = name.rpartition("@")[0] or name
    text = template.replace("{name}", _escaped(name)).replace("{local_part}", _escaped(local_part))
    try:
        return sansldap.LDAPFilter.from_string(text)
    except Exception as error:  # sansldap's own error has no public name
        raise ValueError(f"not a filter of RFC 4515: {error}") from error


def _escaped(text: str) -> str:
    return "".join(
        chr(octet) if chr(octet).isalnum() and octet < 128 else f"\\{octet:02x}" for octet in text.encode()
    )


def _entry(message: sansldap.SearchResultEntry) -> Entry:
    attributes = {
        each.name.lower(): tuple(value.decode("utf-8", "replace") for value in each.values)
        for each in message.attributes
    }
    return Entry(message.object_name, attributes)


def _said(result: sansldap.LDAPResult) -> str:
    """The name of the result. What the server adds in words may repeat what it was asked."""
    return result.result_code.name.lower().replace("_", " ")
