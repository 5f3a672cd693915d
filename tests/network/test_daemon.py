"""What the p2p daemon says reaches people, but for the noise of its own end."""

from __future__ import annotations

import json

import pytest
from hivemind.p2p import P2P

from tests.loopback import Loopback

LINE = {
    "logger": "p2pd",
    "level": "error",
    "caller": "daemon.go:198",
    "ts": "2026-11-22T12:42:25.516Z",
}


def test_the_daemon_s_own_end_is_no_error_to_people(
    loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    loopback.join("speaker")
    for text in ("accept unix /tmp/p2pd.sock: use of closed network connection", "disk full"):
        P2P._log_p2pd_message(json.dumps(LINE | {"msg": "error accepting", "error": text}))
    assert [record.getMessage() for record in caplog.records] == ["error accepting: disk full"]
