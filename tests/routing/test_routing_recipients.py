"""Who exists in our domains, and who stands behind an address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.config import Config, DomainsConfig, RouteConfig, RoutePattern, TransportKind
from elemta.mail import Domain, parse_mailbox
from elemta.routing import Router
from elemta.routing.recipients import MAX_TARGETS, RecipientsFileError, read_recipients, strip_tag

OURS = {"ours.test", "also.test", "open.test", "xn--bcher-kva.test"}


@pytest.fixture
def read(tmp_path):
    def read_text(text: str, delimiter: str = "+"):
        file = tmp_path / "recipients"
        file.write_text(text, encoding="utf-8")
        return read_recipients(file, delimiter, OURS.__contains__)

    return read_text


def expand(table, address: str) -> list[str]:
    return [str(mailbox) for mailbox in table.expand(parse_mailbox(address, utf8=True))]


def exists(table, address: str) -> bool:
    return table.exists(parse_mailbox(address, utf8=True))


def test_a_domain_with_a_line_is_listed_and_others_are_open(read):
    table = read("# who\n\nalice@ours.test\n  bob@ours.test  \n")
    assert exists(table, "alice@ours.test")
    assert exists(table, "ALICE@OURS.test")  # RFC 5321 §2.4: case is ours to judge
    assert exists(table, "bob@ours.test")
    assert not exists(table, "carol@ours.test")
    assert exists(table, "carol@open.test")
    assert exists(table, "carol@elsewhere.test")
    assert expand(table, "alice@ours.test") == ["alice@ours.test"]
    assert expand(table, "carol@elsewhere.test") == ["carol@elsewhere.test"]


def test_aliases_are_followed_in_order_and_each_mailbox_comes_once(read):
    table = read(
        "alice@ours.test\nbob@ours.test\n"
        "info@ours.test: sales, alice, Far.Away@elsewhere.test\n"
        "sales@ours.test: bob, alice, FAR.away@elsewhere.test\n"
    )
    # The case of a foreign local part is its host's to judge, so these are two.
    assert expand(table, "Info@ours.test") == [
        "bob@ours.test",
        "alice@ours.test",
        "FAR.away@elsewhere.test",
        "Far.Away@elsewhere.test",
    ]


def test_an_alias_that_names_itself_keeps_its_own_mailbox(read):
    table = read("alice@ours.test: Alice, copy@elsewhere.test\nteam@ours.test: alice, team@also.test")
    assert expand(table, "alice@ours.test") == ["Alice@ours.test", "copy@elsewhere.test"]
    assert expand(table, "team@ours.test") == ["Alice@ours.test", "copy@elsewhere.test", "team@also.test"]


def test_a_loop_is_entered_once(read):
    table = read("a@ours.test: b, c@elsewhere.test\nb@ours.test: a, d@elsewhere.test")
    assert expand(table, "a@ours.test") == ["d@elsewhere.test", "c@elsewhere.test"]
    assert expand(table, "b@ours.test") == ["c@elsewhere.test", "d@elsewhere.test"]


def test_a_catch_all_takes_who_is_not_listed(read):
    table = read("alice@ours.test\n@ours.test: alice\n@also.test\n")
    assert expand(table, "alice@ours.test") == ["alice@ours.test"]
    assert expand(table, "whoever@ours.test") == ["alice@ours.test"]
    assert expand(table, "whoever@also.test") == ["whoever@also.test"]
    assert exists(table, "whoever@also.test")
    assert not table.is_named(parse_mailbox("whoever@ours.test"))
    assert table.is_named(parse_mailbox("alice+x@ours.test"))


@pytest.mark.parametrize(
    ("delimiter", "address", "found"),
    [
        ("+", "alice+tag@ours.test", ["alice+tag@ours.test"]),
        ("+", "info+tag@ours.test", ["alice@ours.test"]),
        ("+", "alice+own@ours.test", ["bob@ours.test"]),
        ("-", "info-a-b@ours.test", ["alice@ours.test"]),
    ],
)
def test_a_tag_belongs_to_who_is_listed_without_it(read, delimiter: str, address: str, found: list[str]):
    table = read("alice@ours.test\nbob@ours.test\ninfo@ours.test: alice\nalice+own@ours.test: bob", delimiter)
    assert exists(table, address)
    assert expand(table, address) == found


def test_without_a_delimiter_there_are_no_tags(read):
    table = read("alice@ours.test", "")
    assert not exists(table, "alice+tag@ours.test")


@pytest.mark.parametrize(
    ("local_part", "base"), [("a+b+c", "a"), ("a", "a"), ("+a", "+a"), ("a+", "a"), ("+", "+")]
)
def test_what_a_tag_is(local_part: str, base: str):
    assert strip_tag(local_part, "+") == base


def test_quoted_local_parts_and_names_of_all_the_world(read):
    table = read('"a:b,c@d"@ours.test: "x y"@ours.test, jürgen@bücher.test\njürgen@bücher.test')
    assert expand(table, '"a:b,c@d"@ours.test') == ['"x y"@ours.test', "jürgen@xn--bcher-kva.test"]
    assert exists(table, "jürgen@bücher.test")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("alice", 1, "'alice' is no address: no domain in the address"),
        ("\n\nalice@", 3, "'alice@' is no address"),
        ("alice@foreign.test", 1, "foreign.test is neither in domains.local nor in domains.relay"),
        ("alice@ours.test:", 1, "nothing stands behind the colon"),
        ("alice@ours.test: , ,", 1, "nothing stands behind the colon"),
        ("alice@ours.test: b c", 1, "'b c' is no address"),
        ("alice@ours.test\nAlice@OURS.test: bob", 2, "this address stands in line 1 already"),
        ("@ours.test: a\n@ours.test: b", 2, "this address stands in line 1 already"),
        ("@not a domain", 1, "is no domain"),
        ("@[192.0.2.1]", 1, "an address literal is no domain of ours"),
        ("a@[192.0.2.1]", 1, "an address literal is no domain of ours"),
        ('""@ours.test', 1, "an empty local part cannot be listed"),
        ("a@ours.test: b\nb@ours.test: a", 1, "leads only back to itself"),
        ("a@ours.test: " + ", ".join(f"x{i}" for i in range(MAX_TARGETS + 1)), 1, "more than 1000"),
    ],
)
def test_a_bad_line_is_named_with_its_reason(read, tmp_path, text: str, line: int, reason: str):
    with pytest.raises(RecipientsFileError) as caught:
        read(text)
    assert f"{tmp_path / 'recipients'}:{line}: " in str(caught.value)
    assert reason in str(caught.value)


def test_all_bad_lines_are_named_at_once_up_to_a_bound(read):
    with pytest.raises(RecipientsFileError) as caught:
        read("bad\n" * 30)
    assert len(caught.value.problems) == 30
    assert str(caught.value).endswith("and 10 more")
    assert str(caught.value).count("\n") == 20


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(RecipientsFileError, match=r"missing: No such file"):
        read_recipients(tmp_path / "missing", "+", OURS.__contains__)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipientsFileError, match=r"binary: this is no UTF-8 text"):
        read_recipients(tmp_path / "binary", "+", OURS.__contains__)


NAMES = st.sampled_from("abcde")


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=4), max_size=5))
def test_whatever_points_to_whatever_an_expansion_ends_and_repeats_nothing(tmp_path_factory, graph):
    file = tmp_path_factory.mktemp("graph") / "recipients"
    lines = [f"{name}@ours.test" + (f": {', '.join(to)}" if to else "") for name, to in graph.items()]
    file.write_text("\n".join(lines))
    try:
        table = read_recipients(file, "+", OURS.__contains__)
    except RecipientsFileError as error:
        assert "leads only back to itself" in str(error)  # noqa: PT017 - it may also be a good file
        return
    for name in graph:
        found = expand(table, f"{name}@ours.test")
        assert found
        assert len(found) == len(set(found))
        for each in found:  # who is found is a mailbox, unless it keeps its own
            local_part = each.partition("@")[0]
            assert not graph.get(local_part) or local_part in graph[local_part]


def test_a_maildir_is_the_one_of_the_mailbox_without_its_tag_unless_the_tag_is_listed(tmp_path):
    file = tmp_path / "recipients"
    file.write_text("alice@ours.test\nalice+own@ours.test\n")
    routes = (RouteConfig(RoutePattern(), TransportKind.MAILDIR, path="/mail/{local_part}"),)
    domains = DomainsConfig((Domain("ours.test"),), recipients=file)
    router = Router(Config(hostname="mx.ours.test", domains=domains, routes=routes))
    folder = {
        name: router.route(parse_mailbox(f"{name}@ours.test")).next_hop for name in ("alice+x", "alice+own")
    }
    assert folder == {"alice+x": "/mail/alice", "alice+own": "/mail/alice+own"}
    open_router = Router(Config(hostname="mx.ours.test", routes=routes))
    assert open_router.route(parse_mailbox("bob+x@ours.test")).next_hop == "/mail/bob"
    without = Router(Config(hostname="mx.ours.test", domains=DomainsConfig(delimiter=""), routes=routes))
    assert without.route(parse_mailbox("bob+x@ours.test")).next_hop == "/mail/bob+x"


def test_a_reload_that_finds_a_bad_file_changes_nothing(tmp_path):
    file = tmp_path / "recipients"
    file.write_text("alice@ours.test\n")
    config = Config(hostname="mx.ours.test", domains=DomainsConfig((Domain("ours.test"),), recipients=file))
    router = Router(config)
    file.write_text("bob@ours.test\nnonsense\n")
    with pytest.raises(RecipientsFileError, match=":2: "):
        router.replace(config)
    assert router.exists(parse_mailbox("alice@ours.test"))
    file.write_text("bob@ours.test\n")
    router.replace(config)
    assert not router.exists(parse_mailbox("alice@ours.test"))
    assert router.exists(parse_mailbox("bob@ours.test"))
