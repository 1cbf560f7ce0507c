"""The reference of the plugin API, a page for each subject, from the docstrings of the code itself."""

from __future__ import annotations

import ast
import enum
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from elemta.plugin import HOOKS, HookPoint, api
from elemta.plugin import decisions as answers
from elemta.plugin.outside import Http, HttpAnswer, Outside
from elemta.testing import Letter, Mta, Remote, Sent, SmtpClient, open_mta
from elemta.testing.kit import Queued

FOLDER = Path("docs/plugin-api")
NOTE = "Made from the code by `scripts/reference`."
WHEN = {
    "startup": "The plugin begins its service, before it is asked anything. What it raises keeps it out.",
    "shutdown": "It is taken out of service in good order.",
    "connect": "A client has connected, before the banner.",
    "tls": "TLS was agreed on with the client.",
    "hello": "EHLO, HELO or LHLO.",
    "auth": "A client has proved who it is.",
    "mail": "MAIL FROM.",
    "rcpt": "RCPT TO, for each recipient that the relay rules allow.",
    "data": "DATA or the first BDAT, before the message.",
    "headers": "The header is there, and the body still to come.",
    "body": "Each piece of the message, as it comes.",
    "message": "The whole message is there and checked, and the client waits for its reply.",
    "enqueue": "Last, directly before it is stored, with all changes of others in it.",
    "enqueued": "It is stored, and the client has its 250.",
    "disconnect": "The session has ended.",
    "route": "In the queue, for each recipient: where it is to go.",
    "before_attempt": "Directly before an attempt, when it has its turn.",
    "tls_result": "In an attempt, once it is known how the connection is secured.",
    "after_attempt": "An attempt has ended, and its results are written.",
    "delivered": "A recipient was delivered.",
    "deferred": "An attempt for a recipient failed for now.",
    "failed": "A recipient failed for good.",
    "expire": "A recipient was given up, since its time is over.",
    "bounce": "A notice of ours was made.",
    "hold": "A message was put on hold.",
    "release": "It was released.",
    "reload": "The configuration was read again.",
    "event": "Whatever happens in the server, as `elemta tail` shows it.",
}
"""One sentence for each hook: when it is. A test knows that there are no others."""


INDEX = """
Version {version} of what plugins import from `elemta.plugin.api`. Names are added within a version, never
taken away or changed. How plugins are set up and behave is on the page [plugins](../plugins.md), the first
steps are in the [tutorial](../tutorial.md).
"""


def pages() -> dict[Path, str]:
    """Each page by its path in the repository."""
    found: dict[Path, str] = {}
    contents = []
    for name, title, text, lines in (
        ("hooks", "Hooks", "Where plugins are asked, with what, and which answers count there.", _hooks()),
        ("decisions", "Decisions", "What a method of a hook may decide.", _decisions()),
        ("changes", "Changes", "What it may change, and notes for those asked after it.", _changes()),
        ("views", "Views", "What a hook is given: read-only values.", _views()),
        ("context", "Context", "What the server hands to a plugin, as `self.context`.", _context()),
        ("services", "State, lists, DNS, HTTP", "What a plugin remembers, and its ways out.", _services()),
        (
            "settings",
            "Settings",
            "The settings of a plugin, and its entry in the configuration.",
            _settings(),
        ),
        ("testing", "Testing", "The kit for tests of plugins: a whole server in memory.", _testing()),
    ):
        found[FOLDER / f"{name}.md"] = _page(title, text, lines)
        contents.append(f"- [{title}]({name}.md): {text}")
    found[FOLDER / "index.md"] = _page(
        "The plugin API", INDEX.strip().format(version=api.API_VERSION), iter(contents)
    )
    return found


def _page(title: str, text: str, lines: Iterator[str]) -> str:
    page = "\n".join([f"# {title}", "", text, "", *lines, "", f"*{NOTE}*"]) + "\n"
    return re.sub(r"\n{3,}", "\n\n", page)


# --- Pages ------------------------------------------------------------------------------------------------


def _hooks() -> Iterator[str]:
    yield 'A method is marked with `@hook("NAME")`, or several names, and has those parameters of the'
    yield "hook that it wants. A hook that only observes is told, in order, after the fact, and nobody"
    yield "waits for it."
    for point in HOOKS.values():
        yield from ("", f"## `{point.name}`", "", WHEN[point.name], "", *_point(point))
    yield from ("", "## Parameters", "", "`HookArguments` has all that there are; each hook has those above.")
    yield from _fields(api.HookArguments)
    yield from ("", "## Marks", "")
    for each in (api.hook, api.background, api.periodic):
        yield from _function(each, "###")


def _point(point: HookPoint) -> Iterator[str]:
    yield "| | | | --- | --- |"
    yield f"| parameters | {', '.join(f'`{each}`' for each in point.arguments) or 'none'} |"
    if point.observes:
        waits = "it is waited for" if point.name in ("startup", "shutdown") else "it observes"
        yield f"| answers | none: {waits} |"
        return
    links = (f"[`{each.__name__}`](decisions.md#{each.__name__.lower()})" for each in point.decisions)
    yield f"| decisions | {', '.join(links)} |"
    changes = ", ".join(f"`{each}`" for each in point.changes)
    yield f"| [changes](changes.md) | {changes or 'none'} |"


def _decisions() -> Iterator[str]:
    yield "The first decision of all plugins counts, `Continue` and `None` aside; those behind are not"
    yield "asked at this hook then. Values are checked when they are made: a wrong one is an error of"
    yield "the plugin (`on_error`)."
    for each in answers.DECISIONS:
        where = [
            f"`{point.name}`" for point in HOOKS.values() if each in point.decisions and not point.observes
        ]
        yield from _class(each)
        yield from ("", f"At: {', '.join(where)}.")


def _changes() -> Iterator[str]:
    yield "Changes are returned alone, or with a decision and notes in an `Answer`. A call that fails"
    yield "changes nothing."
    for each in (
        answers.Changes,
        answers.HeaderChange,
        answers.HeaderAction,
        answers.RecipientChange,
        answers.RecipientAction,
        answers.HookAnswer,
    ):
        yield from _class(each, "Answer" if each is answers.HookAnswer else None)
    yield from ("", "## Helpers", "")
    for function in (answers.add_header, answers.field_value):
        yield from _function(function, "###")


def _views() -> Iterator[str]:
    yield "Text from clients is as they sent it: a plugin that writes it elsewhere has to quote it"
    yield "there."
    for each in (
        api.SessionView,
        api.EnvelopeView,
        api.MessageView,
        api.HeaderView,
        api.AttemptView,
        api.OutcomeView,
        api.AuthResults,
        api.AuthResult,
        api.Result,
        api.Identity,
        api.TlsFacts,
    ):
        yield from _class(each)


def _context() -> Iterator[str]:
    for each in (api.Context, api.Metrics):
        yield from _class(each)
    yield from ("", "## Log", "")
    yield "`context.log` has `debug`, `info`, `warning`, `error` and `exception`, each with a text and"
    yield 'values by name: `self.context.log.info("asked the service", seconds=0.3)`. Records have the'
    yield "ids of session and message."


def _services() -> Iterator[str]:
    for each in (
        api.State,
        api.SuppressionList,
        api.SuppressedAddress,
        api.Resolver,
        Http,
        HttpAnswer,
        Outside,
    ):
        yield from _class(each)
    yield from _class(api.OutsideFailed)


def _settings() -> Iterator[str]:
    from elemta.config import PluginConfig  # noqa: PLC0415
    from elemta.config.documentation import field_sentence  # noqa: PLC0415
    from elemta.config.schema import HookConfig  # noqa: PLC0415

    yield "A plugin with settings names an attrs class as `Config`; the table `config` of its entry is"
    yield "read into it, and each mistake is told with file and line. A field without a default has to"
    yield "be in the entry. `Duration` reads `5m`, `ByteSize` reads `50MiB`."
    yield from _class(api.Plugin)
    for title, kind in (("[[plugins]]", PluginConfig), ("[[plugins.hooks]]", HookConfig)):
        yield from (
            "",
            f"## `{title}`",
            "",
            _inline(inspect.getdoc(kind) or ""),
            "",
            "| setting | |",
            "| --- | --- |",
        )
        for field in kind.__attrs_attrs__:  # type: ignore[attr-defined]  # of every attrs class
            yield f"| `{field.name}` | {field_sentence(kind, field.name)} |"


def _testing() -> Iterator[str]:
    yield "The fixture `mta` is a running `Mta` with the plugin beside the test; the page"
    yield "[plugins](../plugins.md#testing) has an example."
    yield from ("", "## Functions", "")
    yield from _function(open_mta, "###")
    for each in (Mta, Sent, SmtpClient, Letter, Remote, Queued):
        yield from _class(each)


# --- Classes and functions ----------------------------------------------------------------------------------


def _class(kind: type, name: str | None = None) -> Iterator[str]:
    yield from ("", f"## `{name or kind.__name__}`", "", *_text(ast.get_docstring(_tree(kind)) or ""))
    yield from _fields(kind)
    for member in _tree(kind).body:
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not member.name.startswith("_"):
            if any(ast.unparse(each).endswith((".validator", ".setter")) for each in member.decorator_list):
                continue
            yield from _member(member)


def _fields(kind: type) -> Iterator[str]:
    rows = list(_field_rows(kind))
    if rows:
        yield from ("", "| name | type | default | |", "| --- | --- | --- | --- |", *rows)


def _field_rows(kind: type) -> Iterator[str]:
    body = _tree(kind).body
    is_enum = issubclass(kind, enum.Enum)
    for member, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            name, type_, value = member.target.id, ast.unparse(member.annotation), member.value
        elif is_enum and isinstance(member, ast.Assign) and isinstance(member.targets[0], ast.Name):
            name, type_, value = member.targets[0].id, "", member.value
        else:
            continue
        if name.startswith("_") or ("ClassVar" in type_ and name != "Config"):
            continue
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = _inline(str(after.value.value))
        cells = (f"`{name}`", _code(type_), _code(_default(value)), text)
        yield f"| {' | '.join(cells)} |"


def _default(value: ast.expr | None) -> str:
    """What a field is where nothing is said; empty: it has to be."""
    if value is None:
        return ""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "attrs.field":
        given = {each.arg: each.value for each in value.keywords}
        if "default" in given:
            return ast.unparse(given["default"])
        return (
            {"dict": "{}", "list": "[]"}.get(ast.unparse(given["factory"]), "made")
            if "factory" in given
            else ""
        )
    return ast.unparse(value)


def _member(member: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    decorators = [ast.unparse(each) for each in member.decorator_list]
    is_property = any(each in ("property", "cached_property") for each in decorators)
    name = member.name if is_property else f"{member.name}{_signature(member)}"
    if isinstance(member, ast.AsyncFunctionDef) or "asynccontextmanager" in decorators:
        name = f"{'async with' if 'asynccontextmanager' in decorators else 'await'} {name}"
    returned = (
        "" if member.returns is None or "asynccontextmanager" in decorators else ast.unparse(member.returns)
    )
    yield from ("", f"### `{name}`", "")
    if returned and returned != "None":
        yield from (f"Gives {_code(returned)}.", "")
    yield from _text(ast.get_docstring(member) or "")


def _function(function: Callable[..., Any], level: str) -> Iterator[str]:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    manager = any(ast.unparse(each) == "asynccontextmanager" for each in node.decorator_list)
    yield from ("", f"{level} `{'async with ' if manager else ''}{node.name}{_signature(node)}`", "")
    if not manager:
        yield from _returned(node)
    yield from _text(ast.get_docstring(node) or "")


def _returned(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    returned = "None" if node.returns is None else ast.unparse(node.returns)
    if returned != "None":
        yield from (f"Gives {_code(returned)}.", "")


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = ast.parse(ast.unparse(node)).body[0].args  # type: ignore[attr-defined]  # of a function
    if arguments.args and arguments.args[0].arg == "self":
        del arguments.args[0]
    return f"({ast.unparse(arguments)})"


def _tree(kind: type) -> ast.ClassDef:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    return node


# --- Text ---------------------------------------------------------------------------------------------------


def _text(docstring: str) -> Iterator[str]:
    """A docstring in Markdown: its paragraphs, and its sections as lists."""
    lines = inspect.cleandoc(docstring).splitlines()
    block: list[str] = []
    section = ""
    for line in [*lines, ""]:
        if re.fullmatch(r"(Args|Raises)( \(.*\))?:", line):
            section = line
            yield from ("", {"Args": "Arguments:", "Raises": "Raises:"}[line.split(":")[0].split(" ")[0]], "")
            continue
        if section and re.match(r"  \S", line):
            if block:
                yield f"- {_inline(' '.join(block))}"
            name, colon, rest = line.strip().partition(": ")
            block = [f"`{name}`: {rest}" if colon and " " not in name.replace(", ", "") else line.strip()]
            continue
        if section and line.startswith("    "):
            block.append(line.strip())
            continue
        if section:
            if block:
                yield f"- {_inline(' '.join(block))}"
            block, section = [], ""
            if line:
                yield ""
        yield _inline(line) if line else ""


def _inline(text: str) -> str:
    """A text that is no markup but for its code."""
    text = " ".join(text.split())
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part.replace("|", "\\|") if part.startswith("`") else re.sub(r"([<*_\[\]|])", r"\\\1", part)
        for part in parts
    )


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""
