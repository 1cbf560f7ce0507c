"""The whole configuration in one place: schema, units, strict loading, writing, describing.

Not here: what the settings do, and whether the files and addresses they name can be used.
"""

from .choices import (
    LineEndPolicy,
    ListenerAuth,
    ListenerRole,
    ListenerTls,
    LogFormat,
    LogLevel,
    RouteTls,
    TransportKind,
)
from .describe import AttemptDeadline, Description, Fact, Phase, attempt_deadline, describe
from .documentation import field_sentence
from .kinds import ByteSize, Duration
from .load import load_config, parse_config
from .problems import ConfigError, ConfigProblem
from .schema import (
    AdminConfig,
    Config,
    DeliveryConfig,
    DnsConfig,
    DomainsConfig,
    LimitsConfig,
    ListenerConfig,
    LoggingConfig,
    QueueConfig,
    RelayConfig,
    RouteConfig,
    SpoolConfig,
    TimeoutsConfig,
    TlsConfig,
)
from .units import (
    BadValue,
    DomainPattern,
    HostPort,
    Network,
    RoutePattern,
    format_duration,
    format_size,
    parse_duration,
    parse_host_port,
    parse_size,
)
from .write import example_config, json_schema, render_config

__all__ = [
    "AdminConfig",
    "AttemptDeadline",
    "BadValue",
    "ByteSize",
    "Config",
    "ConfigError",
    "ConfigProblem",
    "DeliveryConfig",
    "Description",
    "DnsConfig",
    "DomainPattern",
    "DomainsConfig",
    "Duration",
    "Fact",
    "HostPort",
    "LimitsConfig",
    "LineEndPolicy",
    "ListenerAuth",
    "ListenerConfig",
    "ListenerRole",
    "ListenerTls",
    "LogFormat",
    "LogLevel",
    "LoggingConfig",
    "Network",
    "Phase",
    "QueueConfig",
    "RelayConfig",
    "RouteConfig",
    "RoutePattern",
    "RouteTls",
    "SpoolConfig",
    "TimeoutsConfig",
    "TlsConfig",
    "TransportKind",
    "attempt_deadline",
    "describe",
    "example_config",
    "field_sentence",
    "format_duration",
    "format_size",
    "json_schema",
    "load_config",
    "parse_config",
    "parse_duration",
    "parse_host_port",
    "parse_size",
    "render_config",
]
