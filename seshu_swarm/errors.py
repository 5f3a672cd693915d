"""Every error a person can meet, with its exit code.

    SeshuError                    1   something the program could not do
    ├── UsageError                2   a flag, a setting or a configuration file is wrong
    ├── JoinError                10   could not join the swarm
    │   ├── LinkError            11   the join link is malformed
    │   ├── UnreachableError     12   no address in the link answered
    │   ├── FingerprintError     13   the run is signed by another key than the link names
    │   ├── ClockError           14   this machine's clock is off by more than the swarm allows
    │   ├── WireVersionError     15   the other side speaks another wire version
    │   └── ForkError            16   two coordinators with one key: two signed successors of one revision
    ├── DataError                20   a row, a file or a language of the training text is missing or wrong
    ├── ResourceError            30   this machine cannot give what was asked
    │   ├── DiskFullError        31   no room left on the disk
    │   ├── PortTakenError       32   the port is in use
    │   └── MemoryLimitError     33   the span or the batch does not fit the memory limit
    ├── PackageError             40   a checkpoint or an adapter on disk is incomplete or was changed
    │   ├── DigestError          41   the bytes are not those that were announced
    │   └── AdapterError         42   the strict reader refused an adapter
    ├── RoundError               50   the round published nothing
    ├── MismatchError            51   the swarm's tokens differ from those of the whole model
    ├── TrainingError            52   the adapter did not improve, so it was not pushed
    └── PeerError                60   another peer failed
        ├── PeerLostError        61   the connection ended before the final frame
        ├── DeadlineError        62   a peer did not answer in time
        ├── RefusalError         63   a peer said no, with a name
        ├── ProtocolError        64   a peer sent bytes that break the protocol
        └── RevisionRetiredError 65   nobody serves the session's revision any more, and there is a newer one

130 is an interruption (Ctrl-C). Every message has three parts: what was wrong with the value,
the rule, and the way out. `str()` joins them into the one line that people see.
"""

import errno

EXIT_INTERRUPTED = 130
OUT_OF_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SeshuError(Exception):
    """What was wrong (with the value), the rule, and the way out."""

    exit_code = 1

    def __init__(self, what: str, *, rule: str = "", way_out: str = "") -> None:
        self.what, self.rule, self.way_out = what, rule, way_out
        super().__init__("; ".join(part for part in (what, rule, way_out) if part))


class UsageError(SeshuError):
    exit_code = 2


class JoinError(SeshuError):
    exit_code = 10


class LinkError(JoinError):
    exit_code = 11


class UnreachableError(JoinError):
    exit_code = 12


class FingerprintError(JoinError):
    exit_code = 13


class ClockError(JoinError):
    exit_code = 14


class WireVersionError(JoinError):
    exit_code = 15


class ForkError(JoinError):
    exit_code = 16


class DataError(SeshuError):
    exit_code = 20


class ResourceError(SeshuError):
    exit_code = 30


class DiskFullError(ResourceError):
    exit_code = 31


class PortTakenError(ResourceError):
    exit_code = 32


class MemoryLimitError(ResourceError):
    exit_code = 33


class PackageError(SeshuError):
    exit_code = 40


class DigestError(PackageError):
    exit_code = 41


class AdapterError(PackageError):
    exit_code = 42


class RoundError(SeshuError):
    exit_code = 50


class MismatchError(SeshuError):
    exit_code = 51


class TrainingError(SeshuError):
    exit_code = 52


class PeerError(SeshuError):
    exit_code = 60


class PeerLostError(PeerError):
    exit_code = 61


class DeadlineError(PeerError):
    exit_code = 62


class RefusalError(PeerError):
    """A peer's named no. `name` is the refusal's name on the wire."""

    exit_code = 63

    def __init__(self, name: str, what: str, *, rule: str = "", way_out: str = "") -> None:
        self.name = name
        super().__init__(f"{name}: {what}", rule=rule, way_out=way_out)


class ProtocolError(PeerError):
    exit_code = 64


class RevisionRetiredError(PeerError):
    """Nobody serves `revision` any more, and the run is at `newest`: states of the one mean nothing
    to the other, so whoever knows the tokens reads them again there."""

    exit_code = 65

    def __init__(self, revision: str, newest: str) -> None:
        self.revision, self.newest = revision, newest
        super().__init__(
            f"nobody serves revision {revision[:12]} any more, the run is at {newest[:12]}",
            rule="a session's state fits the revision that made it and no other",
            way_out="begin a new session on the newest revision, with the whole text",
        )


def shown(value: object) -> str:
    """A stranger's value inside a message: short, and never followed where it is nested."""
    if isinstance(value, str | int | float | None):
        return repr(value)[:80]
    return type(value).__name__


def from_os_error(error: OSError, what: str) -> SeshuError:
    """Translate what the operating system said while `what` was being written or read."""
    if error.errno in OUT_OF_ROOM:
        return DiskFullError(
            f"no room on the disk while writing {what} ({error.strerror})",
            rule="a file is announced only when it is whole on the disk",
            way_out="free some space or choose another folder with --state-dir",
        )
    return ResourceError(
        f"cannot use {what}: {error.strerror or error}",
        rule="the state folder must be readable and writable by you",
        way_out="check the path and its permissions",
    )
