"""[logging]: what is wrong with its outputs is said with the line."""

from __future__ import annotations

import pytest

from elemta.config import ConfigError, LogFacility, LogFormat, LogTarget, parse_config

HEAD = 'hostname = "mx.example.org"\n[logging]\n'


def test_outputs_are_read() -> None:
    config = parse_config(
        HEAD
        + 'format = "off"\n[[logging.outputs]]\nto = "syslog"\nformat = "mail"\naddress = "192.0.2.1:514"\nprotocol = "tcp"\n'
        'facility = "local3"\ntypes = ["recipient.*", "message.accepted", "log"]\nsample = 0.5\ntag = "postfix"\n',
        "elemta.toml",
    )
    (output,) = config.logging.outputs
    assert (output.to, output.format, output.facility) == (
        LogTarget.SYSLOG,
        LogFormat.MAIL,
        LogFacility.LOCAL3,
    )
    assert str(output.address) == "192.0.2.1:514"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('format = "off"', "nobody to tell"),
        ('[[logging.outputs]]\nto = "file"', "needs a path"),
        ('[[logging.outputs]]\nto = "journal"\naddress = "192.0.2.1:514"', "only with to"),
        (
            '[[logging.outputs]]\nto = "syslog"\naddress = "192.0.2.1:514"\npath = "/dev/log"',
            "leave one of them out",
        ),
        ('[[logging.outputs]]\nto = "syslog"\nprotocol = "tls"', "needs an address"),
        (
            '[[logging.outputs]]\nto = "syslog"\naddress = "192.0.2.1:514"\nname = "logs.example.org"',
            'only with protocol = "tls"',
        ),
        (
            '[[logging.outputs]]\nto = "syslog"\naddress = "192.0.2.1:514"\nprotocol = "tls"\nkey = "k.pem"',
            "needs a certificate",
        ),
        ('[[logging.outputs]]\nto = "journal"\nformat = "off"', "leave the whole output out"),
        ('[[logging.outputs]]\nto = "journal"\n[[logging.outputs]]\nto = "journal"', "already"),
        ('[[logging.outputs]]\nto = "journal"\ntypes = ["Recipient"]', "recipient.*"),
        ('[[logging.outputs]]\nto = "journal"\nsample = 2', "sample"),
        ('[[logging.outputs]]\nto = "journal"\nfacility = "kern"', "facility"),
    ],
)
def test_what_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match="(?s)" + words.replace(".*", r"\.\*")):
        parse_config(HEAD + text + "\n", "elemta.toml")
