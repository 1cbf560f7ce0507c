"""Hook arguments and answers as JSON, and back; octets travel as Latin-1 text.

JSON because reading it can do nothing but make text, numbers and lists, whoever wrote it. What comes
from a worker is structured strictly into the values of the API, and checked like any other answer.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any  # cattrs' hooks take and give anything

import attrs
from cattrs import BaseValidationError, Converter, ForbiddenExtraKeysError

from elemta.plugin.decisions import DECISIONS, NO_ANSWER, Decision, HookAnswer, NoteValue
from elemta.plugin.tier import BadAnswer, check_answer
from elemta.plugin.views import HookArguments, MessageView

_BY_NAME = {each.__name__: each for each in DECISIONS}
_NOTHING_SAID = b"{}"


@cache
def _converter() -> Converter:
    # Without detailed validation: an answer that is wrong has one cause, and the group is not shown.
    converter = Converter(omit_if_default=True, detailed_validation=False, forbid_extra_keys=True)
    converter.register_unstructure_hook(bytes, lambda value: value.decode("latin-1"))
    converter.register_structure_hook(bytes, lambda value, _: value.encode("latin-1"))
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(Decision, _decision)
    converter.register_unstructure_hook(Decision, _tagged)
    converter.register_structure_hook(NoteValue, _note)
    return converter


def _text(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text is expected")
    return value


def _note(value: Any, _: Any) -> NoteValue:
    if value is not None and not isinstance(value, str | int | float):
        raise TypeError("a note is text, a number or a truth value")
    return value


def _tagged(value: Any) -> Any:
    return [type(value).__name__, attrs.asdict(value)]


def _decision(value: Any, _: Any) -> Decision:
    name, fields = value
    return _converter().structure(fields, _BY_NAME[name])


def pack_arguments(arguments: HookArguments) -> bytes:
    """For the worker."""
    return _pack(_converter().unstructure(arguments, HookArguments))


def unpack_arguments(content: bytes) -> HookArguments:
    """In the worker; from the server, who makes no mistakes."""
    return _converter().structure(json.loads(content.decode("utf-8", "surrogatepass")), HookArguments)


def pack_answer(answer: HookAnswer) -> bytes:
    """In the worker. The answer has been checked, so that a mistake in it is told to its author.

    Raises:
      BadAnswer: it is no answer.
    """
    if answer is NO_ANSWER:
        return _NOTHING_SAID
    return _pack(_converter().unstructure(check_answer(answer), HookAnswer))


def unpack_answer(content: bytes) -> HookAnswer:
    """From a worker, whom nobody believes.

    Raises:
      BadAnswer: it is no answer.
    """
    if content == _NOTHING_SAID:
        return NO_ANSWER
    try:
        answer = _converter().structure(json.loads(content.decode("utf-8", "surrogatepass")), HookAnswer)
    except BadAnswer:
        raise
    except (
        ForbiddenExtraKeysError, BaseValidationError, ValueError, TypeError, KeyError,
        AttributeError, RecursionError, OverflowError
    ) as cause:  # fmt: skip
        raise BadAnswer("the worker sent what is no answer of a hook") from cause
    return check_answer(answer)


def without_copy(arguments: HookArguments, limit: int) -> HookArguments:
    """The arguments without a message that is too large for a frame, where there is a file of it."""
    message = arguments.message
    if not isinstance(message, MessageView) or message.path is None or message.content is None:
        return arguments
    if len(message.content) <= limit:
        return arguments
    return attrs.evolve(arguments, message=attrs.evolve(message, content=None))


def _pack(value: Any) -> bytes:
    # Not escaped: octets as \u00xx would take six times the room. Lone surrogates come from strangers.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
