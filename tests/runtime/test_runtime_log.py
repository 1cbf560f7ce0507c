"""All loggers of the process end in one sink, as records."""

import io
import logging
import sys
import warnings

import pytest
import structlog
import trio

from elemta.runtime import bind, get_logger, logging_to

log = get_logger("elemta.test")


class Sink:
    def __init__(self):
        self.records = []

    def put(self, record):
        self.records.append(record)


class SetClock:
    def time(self):
        return 1000.5


@pytest.fixture
def sink():
    sink = Sink()
    with logging_to(sink, "debug", clock=SetClock()):
        yield sink


def our_handler():
    [handler] = [each for each in logging.getLogger().handlers if type(each).__module__.startswith("elemta.")]
    return handler


def test_a_record_says_when_how_bad_who_and_what(sink):
    log.warning("accept failed", listener="mx", errno=24)
    [record] = sink.records
    assert list(record.items()) == [
        ("time", 1000.5),
        ("level", "warning"),
        ("type", "log"),
        ("logger", "elemta.test"),
        ("text", "accept failed"),
        ("listener", "mx"),
        ("errno", 24),
    ]


def test_levels_have_their_methods(sink):
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    log.critical("e")
    assert [record["level"] for record in sink.records] == ["debug", "info", "warning", "error", "error"]


def test_a_level_that_is_off_makes_nothing_and_may_change_at_any_time():
    sink = Sink()

    class Costly:
        def __str__(self):
            raise AssertionError("made for nothing")

    with logging_to(sink, "error") as handle:
        log.debug("x", value=Costly())
        log.info("x", value=Costly())
        log.warning("x", value=Costly())
        logging.getLogger("library").warning("%s", Costly())
        assert sink.records == []
        handle.set_level("info")
        log.info("seen")
    assert [record["text"] for record in sink.records] == ["seen"]


def test_a_logger_can_carry_values(sink):
    log.bind(listener="mx").info("ready", port=25)
    assert sink.records[0]["listener"] == "mx"
    assert sink.records[0]["port"] == 25


async def test_context_goes_into_every_record_of_a_task_and_its_children(sink):
    async def child():
        log.info("in the child")
        with bind(message="m1"):
            logging.getLogger("library").info("with the message")

    async def other():
        log.info("elsewhere")

    async with trio.open_nursery() as outer:
        with bind(session="s1"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
        outer.start_soon(other)
        log.info("after")
    found = {record["text"]: (record.get("session"), record.get("message")) for record in sink.records}
    assert found == {
        "in the child": ("s1", None),
        "with the message": ("s1", "m1"),
        "after": (None, None),
        "elsewhere": (None, None),
    }


def test_libraries_records_come_too(sink):
    logging.getLogger("trio_websocket").warning("peer %s is odd", "x")
    [record] = sink.records
    assert (record["level"], record["type"], record["logger"]) == ("warning", "log", "trio_websocket")
    assert record["text"] == "peer x is odd"
    assert isinstance(record["time"], float)


def test_libraries_levels_are_mapped_and_their_debug_records_never_taken(sink):
    library = logging.getLogger("library")
    for number in (5, 10, 20, 25, 30, 40, 50):
        library.log(number, "x")
    assert [record["level"] for record in sink.records] == ["info", "info", "warning", "error", "error"]
    our_handler().handle(logging.LogRecord("library", 5, "", 0, "x", (), None))
    assert sink.records[-1]["level"] == "debug"


def test_a_librarys_wrong_format_is_shown_as_it_is(sink):
    # not through the logger, where pytest's own handler would raise
    our_handler().handle(logging.LogRecord("library", 40, "", 0, "%d messages", ("many",), None))
    assert sink.records[0]["text"] == "%d messages"


def test_other_users_of_structlog_end_in_the_same_place(sink):
    structlog.get_logger("plugin.greylist").info("hello", client="192.0.2.1")
    structlog.get_logger().info("without a name")
    assert [(record["logger"], record["text"]) for record in sink.records] == [
        ("plugin.greylist", "hello"),
        ("", "without a name"),
    ]


def test_warnings_end_in_the_same_place(sink):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert sink.records[0]["logger"] == "py.warnings"
    assert "DeprecationWarning: old" in sink.records[0]["text"]


def test_exceptions_come_with_their_traceback(sink):
    try:
        raise ValueError("bug")
    except ValueError as error:
        log.exception("it broke")
        log.error("again", exc_info=error)
        logging.getLogger("library").exception("theirs")
    for record in sink.records:
        assert record["level"] == "error"
        assert record["exception"].startswith("Traceback")
        assert record["exception"].endswith("ValueError: bug\n")
        assert "exc_info" not in record


def test_exception_without_an_exception(sink):
    log.error("nothing broke", exc_info=True)  # noqa: LOG014 - the mistake that is tested
    assert sink.records[0]["exception"] == "no exception is being handled"


def test_a_long_traceback_keeps_both_ends(sink):
    try:
        raise ValueError("x" * 100_000 + "end")
    except ValueError:
        log.exception("it broke")
    trace = sink.records[0]["exception"]
    assert len(trace) < 17_000
    assert trace.startswith("Traceback")
    assert trace.endswith("end\n")


def test_values_are_made_plain_at_once(sink):
    class Changing:
        text = "before"

        def __str__(self):
            return self.text

    class Odd:
        def __str__(self):
            raise RuntimeError("no")

    value = Changing()
    log.info("x", value=value, raw=b"EHLO \xff\r\n", odd=Odd(), items=[1], none=None)
    value.text = "after"
    record = sink.records[0]
    assert record["value"] == "before"
    assert record["raw"] == "EHLO \\xff\r\n"
    assert record["odd"] == "<Odd: its text raises RuntimeError>"
    assert record["items"] == [1]
    assert record["none"] is None


def test_values_cannot_take_the_place_of_what_a_record_says_itself(sink):
    log.info("text", time=1, level="no", type="no", logger="no")
    record = sink.records[0]
    assert (record["time"], record["level"], record["type"], record["logger"]) == (
        1000.5,
        "info",
        "log",
        "elemta.test",
    )
    assert (record["time_"], record["level_"]) == (1, "no")


def test_secrets_given_by_mistake_are_hidden(sink):
    log.info("x", password="hunter2", Token=b"abc", user="me")
    assert sink.records[0]["password"] == "(hidden)"
    assert sink.records[0]["Token"] == "(hidden)"
    assert sink.records[0]["user"] == "me"


def test_afterwards_everything_is_as_before():
    root = logging.getLogger()
    before = (root.handlers[:], root.level, structlog.is_configured())
    outer, inner = Sink(), Sink()
    with logging_to(outer, "warning"):
        with logging_to(inner, "debug"):
            log.info("inner")
        log.info("off")
        log.warning("outer")
        structlog.get_logger("plugin").warning("outer too")
    assert [record["text"] for record in inner.records] == ["inner"]
    assert [record["text"] for record in outer.records] == ["outer", "outer too"]
    assert (root.handlers[:], root.level, structlog.is_configured()) == before


def test_where_no_sink_is_set_warnings_go_to_standard_error(capsys):
    log.info("quiet")
    log.warning("loud\x1b", value=1)
    shown = capsys.readouterr().err
    assert "quiet" not in shown
    assert "warning loud\\x1b logger=elemta.test value=1\n" in shown


def test_a_broken_standard_error_is_survived(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    log.error("nobody hears it")
    heard = io.StringIO()
    monkeypatch.setattr(sys, "stderr", heard)
    log.error("loud again")
    assert "loud again" in heard.getvalue()
