"""Pages of log events over files; through boto3 they are in tests/api/test_logs.py."""

from __future__ import annotations

from pathlib import Path

from hostler.control.logs.pages import Place, Range, merged
from hostler.engines.log_stream import LogStream


def test_what_is_noted_while_a_page_is_read_comes_in_the_next_one(tmp_path: Path) -> None:
    streams = {name: LogStream(tmp_path / f"{name}.log", ended=False) for name in "ab"}

    def look(now: int) -> None:
        for stream in streams.values():
            with stream.path.open("ab") as file:
                file.write(b"%d\n" % now)
            stream.note(now)

    def page(after: Place | None, seen: int) -> tuple[list[tuple[str, str]], Place | None]:
        found = merged(streams, after, 100, Range(None, None, seen), lambda _: True, backwards=False)
        return [(name, message) for name, _, message in found.events], found.last

    look(10)
    look(20)  # when the page of a request that looked at 10 is being read
    events, last = page(None, 10)
    assert events == [("a", "10"), ("b", "10")]
    assert page(last, 20)[0] == [("a", "20"), ("b", "20")]


def test_clocks_that_go_back_hide_nothing(tmp_path: Path) -> None:
    stream = LogStream(tmp_path / "a.log", ended=False)
    stream.path.write_bytes(b"one\n")
    assert stream.note(50) == 50
    stream.path.write_bytes(b"one\ntwo\n")
    seen = stream.note(20)
    found = merged({"a": stream}, None, 100, Range(None, None, seen), lambda _: True, backwards=False)
    assert [message for _, _, message in found.events] == ["one", "two"]
