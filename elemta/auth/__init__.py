"""Is this really the user? SASL exchanges, accounts and their secrets (in a file, a table, a
web service or a directory), brakes on guessing.

Mechanisms are pure functions; `SaslExchange` carries one exchange to its verdict. Secrets are shown to
nobody: no repr, error, log line or event has one.

Not here: the AUTH command itself (`elemta.smtp`), when a session must log in and what it may do then
(`elemta.inbound`).
"""

from .authenticator import REFRESH, Authenticator, AuthStatistics, make_authenticator
from .binding import server_end_point
from .edit import UsersBusy, UsersText, edit_users, make_password, with_secret
from .exchange import Introspect, SaslExchange, TokenOwner, TokensUnavailable
from .filestore import FileStore, load_users
from .introspection import Introspection, make_introspection
from .keyfile import AuthFilesError, Ownership, read_private
from .mechanisms import MECHANISMS
from .prepare import NotPrepared, prepare_name, prepare_password, saslprep
from .senders import SenderPattern, may_send_as, parse_sender_pattern
from .store import Account, CredentialStore, Proved, ScramAccount, ScramKeys, StoreUnavailable
from .stores import (
    AccountsChange,
    AccountsElsewhere,
    cost_of,
    edit_accounts,
    examine_store,
    has_logins,
    list_accounts,
)
from .tablestore import TableStore
from .throttle import Throttle, ThrottleStatistics
from .users import UserRecord, app_credential
from .usertable import TableUnusable
from .values import Accepted, AuthClient, Challenge, Refused, Step

__all__ = [
    "MECHANISMS",
    "REFRESH",
    "Accepted",
    "Account",
    "AccountsChange",
    "AccountsElsewhere",
    "AuthClient",
    "AuthFilesError",
    "AuthStatistics",
    "Authenticator",
    "Challenge",
    "CredentialStore",
    "FileStore",
    "Introspect",
    "Introspection",
    "NotPrepared",
    "Ownership",
    "Proved",
    "Refused",
    "SaslExchange",
    "ScramAccount",
    "ScramKeys",
    "SenderPattern",
    "Step",
    "StoreUnavailable",
    "TableStore",
    "TableUnusable",
    "Throttle",
    "ThrottleStatistics",
    "TokenOwner",
    "TokensUnavailable",
    "UserRecord",
    "UsersBusy",
    "UsersText",
    "app_credential",
    "cost_of",
    "edit_accounts",
    "edit_users",
    "examine_store",
    "has_logins",
    "list_accounts",
    "load_users",
    "make_authenticator",
    "make_introspection",
    "make_password",
    "may_send_as",
    "parse_sender_pattern",
    "prepare_name",
    "prepare_password",
    "read_private",
    "saslprep",
    "server_end_point",
    "with_secret",
]
