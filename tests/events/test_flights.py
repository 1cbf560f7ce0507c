"""The flight recorder: what it keeps, and how much."""

from elemta.events import FlightRecorder, Mark, Transcript
from elemta.events.flights import HEAD, MOST_ENTRIES


def texts(entries):
    return [what.message if isinstance(what, Mark) else what for _, _, what in entries]


def test_a_long_transcript_keeps_its_beginning_and_its_end():
    transcript = Transcript()
    for number in range(1000):
        transcript.note("C", str(number))
    kept = texts(transcript.all())
    assert len(kept) <= MOST_ENTRIES
    assert kept[:HEAD] == [str(number) for number in range(HEAD)]
    assert kept[-50:] == [str(number) for number in range(950, 1000)]
    assert len(kept) + transcript.dropped == 1000
    times = [time for time, _, _ in transcript.all()]
    assert times == sorted(times)


def test_of_a_kept_session_only_what_is_about_the_message_is_told():
    transcript = Transcript()
    for what in ("greeting", "hello", Mark("a"), "of a", Mark("b"), "end of a", "of b"):
        transcript.note("*", what)
    assert texts(transcript.since(Mark("b"))) == ["greeting", "hello", "b", "end of a", "of b"]
    assert texts(transcript.since(Mark("a"))) == ["greeting", "hello", "a", "of a", "b", "end of a", "of b"]
    assert len(transcript.since(Mark("c"))) == 7


def keep(recorder: FlightRecorder, *lines: str, **more: str):
    transcript = Transcript()
    for line in lines:
        transcript.note("C", line)
    return recorder.keep("session", transcript.all(), time=1.0, about="s", peer="192.0.2.1", **more)


def test_the_newest_come_first_and_the_oldest_make_room():
    recorder = FlightRecorder(10_000)
    for number in range(100):
        keep(recorder, "x" * 1000, message=str(number))
    kept = list(recorder)
    assert [flight.message for flight in kept] == [str(99 - place) for place in range(len(kept))]
    assert 3 < len(kept) < 10
    assert sum(flight.size for flight in kept) <= 10_000
    assert recorder.find(kept[0].id) is kept[0]
    assert recorder.find("1") is None
    recorder.capacity = 2000
    assert len(list(recorder)) == 1
    recorder.capacity = 0
    assert list(recorder) == []
    assert keep(recorder, "x") is None


def test_nothing_said_is_no_flight():
    assert keep(FlightRecorder(10_000)) is None


def test_one_that_is_too_large_is_not_kept():
    recorder = FlightRecorder(1000)
    keep(recorder, "x" * 2000)
    assert list(recorder) == []
