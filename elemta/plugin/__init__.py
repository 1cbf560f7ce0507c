"""The host of plugins, and the API that their authors import (`elemta.plugin.api`).

Not here: what is done about an answer. Sessions and the queue do that.
"""

from .apart import ApartPlugin, look_at, setup_of
from .chain import NO_OBJECTION, Chain, Verdict, decision_for
from .decisions import (
    CONTINUE,
    DECISIONS,
    NO_ANSWER,
    NO_CHANGES,
    Accept,
    Changes,
    Continue,
    Decision,
    Defer,
    Discard,
    HeaderAction,
    HeaderChange,
    Hold,
    HookAnswer,
    NoteValue,
    Quarantine,
    RecipientAction,
    RecipientChange,
    Redirect,
    Reject,
    add_header,
)
from .hooks import HOOKS, HookPoint
from .host import PluginHost, PluginStatus, Ward, open_plugins
from .loader import LoadedPlugin, check_safe, find_file, load_plugin, load_plugins
from .member import Member, Standing
from .process import ProcessTier
from .served import ENTRY, serve
from .task import TaskTier
from .tier import BadAnswer, Failure, PluginFailed, Tier, TierStatistics, check_answer
from .views import (
    NO_ARGUMENTS,
    AttemptView,
    EnvelopeView,
    HeaderView,
    HookArguments,
    MessageView,
    OutcomeView,
    SessionView,
)
from .worker import Limits, Question, WorkerSettings

__all__ = [
    "CONTINUE",
    "DECISIONS",
    "ENTRY",
    "HOOKS",
    "NO_ANSWER",
    "NO_ARGUMENTS",
    "NO_CHANGES",
    "NO_OBJECTION",
    "Accept",
    "ApartPlugin",
    "AttemptView",
    "BadAnswer",
    "Chain",
    "Changes",
    "Continue",
    "Decision",
    "Defer",
    "Discard",
    "EnvelopeView",
    "Failure",
    "HeaderAction",
    "HeaderChange",
    "HeaderView",
    "Hold",
    "HookAnswer",
    "HookArguments",
    "HookPoint",
    "Limits",
    "LoadedPlugin",
    "Member",
    "MessageView",
    "NoteValue",
    "OutcomeView",
    "PluginFailed",
    "PluginHost",
    "PluginStatus",
    "ProcessTier",
    "Quarantine",
    "Question",
    "RecipientAction",
    "RecipientChange",
    "Redirect",
    "Reject",
    "SessionView",
    "Standing",
    "TaskTier",
    "Tier",
    "TierStatistics",
    "Verdict",
    "Ward",
    "WorkerSettings",
    "add_header",
    "check_answer",
    "check_safe",
    "decision_for",
    "find_file",
    "load_plugin",
    "load_plugins",
    "look_at",
    "open_plugins",
    "serve",
    "setup_of",
]
