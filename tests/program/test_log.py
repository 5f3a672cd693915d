"""What a role says: a line for people or an object for programs; progress is sparse."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from seshu_swarm.program import log
from seshu_swarm.program.progress import Bar


def test_people_read_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("peer host", "text")
    log.event("ready", "ready hosting blocks 0:2", blocks="0:2")
    assert log.is_text()
    assert capsys.readouterr().out == "ready hosting blocks 0:2\n"


def test_programs_read_objects(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("peer host", "json")
    log.event("ready", "ready\nहै", blocks="0:2", count=2)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and not log.is_text()
    event = json.loads(said)
    assert event.pop("time") > 1e9
    assert event == {"event": "ready", "text": "ready\nहै", "blocks": "0:2", "count": 2}


def test_our_lines_go_to_standard_error_and_strangers_only_when_it_matters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure("peer host", "json")
    logging.getLogger("seshu_swarm.network.dht").info("joined")
    logging.getLogger("seshu_swarm.network.dht").debug("details")
    logging.getLogger("somebody.else").info("chatter")
    logging.getLogger("somebody.else").warning("a warning")
    said = capsys.readouterr()
    assert said.out == ""
    assert "peer host INFO joined" in said.err and "a warning" in said.err
    assert "details" not in said.err and "chatter" not in said.err
    log.configure("peer host", "text", verbose=True)
    logging.getLogger("seshu_swarm.network.dht").debug("details")
    assert "details" in capsys.readouterr().err


def test_a_listener_that_is_gone_does_not_end_the_role(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    log.configure("peer host", "text")
    log.event("ready", "ready")
    log.event("ready", "ready")
    sys.stdout.close()


def test_progress_in_a_log_is_a_line_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("peer finetune", "text")
    with Bar("training") as bar:
        for step in range(1_001):
            bar.update(step / 1_000, loss=2.0)
    lines = capsys.readouterr().out.splitlines()
    assert 10 <= len(lines) <= 12
    assert lines[0] == "training 0% loss 2"
    assert lines[-1] == "training 100% loss 2, 0:00:00 left"


def test_progress_says_the_time_left_at_the_speed_so_far(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.configure("peer finetune", "json")
    now = iter([100.0, 100.0, 130.0, 130.0])
    monkeypatch.setattr("seshu_swarm.program.progress.time.monotonic", lambda: next(now))
    with Bar("training") as bar:
        bar.update(0.4)  # a training that was taken up again
        bar.update(0.6)
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    # A fifth took 30 s, so two fifths take 60.
    assert "seconds_left" not in first and second["seconds_left"] == 60


def test_progress_for_programs_is_seldom_but_ends_with_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure("peer finetune", "json")
    with Bar("training") as bar:
        for step in range(1_001):
            bar.update(step / 1_000, loss=2.0)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert 1 <= len(events) <= 5 and events[-1]["fraction"] == 1.0
    assert all(e["event"] == "progress" and e["label"] == "training" for e in events)
