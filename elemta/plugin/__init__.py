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
    field_value,
)
from .hooks import HOOKS, HookPoint
from .hops import parse_hop
from .host import Change, PluginHost, PluginStatus, PluginUnusable, open_plugins
from .loader import LoadedPlugin, check_safe, find_file, in_order, load_one, load_plugin, load_plugins
from .member import Member, Standing
from .metrics import Measured, Metrics
from .outside import Outside
from .process import ProcessTier
from .served import ENTRY, serve
from .service import Ward
from .settings import HookSettings, settings_of, timeouts_of
from .shadow import Difference, Shadows, Tally
from .suppressed import SuppressedAddress, SuppressionList
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
from .watchdog import Stall, Watchdog, Watched
from .words import changes_in_words, decision_in_words, deeds_of, line_of
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
    "Change",
    "Changes",
    "Continue",
    "Decision",
    "Defer",
    "Difference",
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
    "HookSettings",
    "Limits",
    "LoadedPlugin",
    "Measured",
    "Member",
    "MessageView",
    "Metrics",
    "NoteValue",
    "OutcomeView",
    "Outside",
    "PluginFailed",
    "PluginHost",
    "PluginStatus",
    "PluginUnusable",
    "ProcessTier",
    "Quarantine",
    "Question",
    "RecipientAction",
    "RecipientChange",
    "Redirect",
    "Reject",
    "SessionView",
    "Shadows",
    "Stall",
    "Standing",
    "SuppressedAddress",
    "SuppressionList",
    "Tally",
    "TaskTier",
    "Tier",
    "TierStatistics",
    "Verdict",
    "Ward",
    "Watchdog",
    "Watched",
    "WorkerSettings",
    "add_header",
    "changes_in_words",
    "check_answer",
    "check_safe",
    "decision_for",
    "decision_in_words",
    "deeds_of",
    "field_value",
    "find_file",
    "in_order",
    "line_of",
    "load_one",
    "load_plugin",
    "load_plugins",
    "look_at",
    "open_plugins",
    "parse_hop",
    "serve",
    "settings_of",
    "setup_of",
    "timeouts_of",
]
