"""Fixtures of all tests: a tiny checkpoint, a free port, real peers on loopback."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from seshu_swarm.spans import Span


def pytest_configure(config: pytest.Config) -> None:
    # How long an example takes says how busy the machine is.
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("suite")
    # A shell that starts the tests in the background has them ignore Ctrl-C, and their children too.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # hivemind 1.1.12 scripts a layer with torch.jit and finds its daemon by importlib.resources.path.
    config.addinivalue_line("filterwarnings", "ignore:.torch.jit.script. is dep:DeprecationWarning")
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:hivemind.*")
    # Its daemon client forgets the control connection of a dial that failed.
    forgotten = ("<StreamWriter", "transport <_Sel", "<socket.*raddr=/tmp/hivemind-p2pd")
    for what in forgotten:
        config.addinivalue_line("filterwarnings", f"ignore:unclosed {what}:ResourceWarning")


@dataclass(frozen=True)
class TinyCheckpoint:
    """A sealed checkpoint: d_model 32, four blocks, weights from a fixed seed."""

    folder: Path
    revision: str
    num_blocks: int = 4
    d_model: int = 32

    @property
    def whole(self) -> Span:
        return Span(0, self.num_blocks)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyCheckpoint:
    import torch

    from seshu_swarm import checkpoints
    from seshu_swarm.mamba.shape import MambaShape
    from seshu_swarm.mamba.whole import WholeModel

    torch.set_num_threads(1)
    torch.manual_seed(7)
    shape = MambaShape(d_model=32, num_blocks=4)
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    revision = checkpoints.save_checkpoint(
        folder,
        shape=shape,
        tensors=WholeModel(shape).checkpoint_tensors(),
        about={"parent": None, "round": 0},
        card="A tiny model with random weights.\n",
    )
    return TinyCheckpoint(folder, revision)


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that the system says is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Undo what `log.configure` does to the whole process."""
    from seshu_swarm.program import log

    root, ours = logging.getLogger(), logging.getLogger("seshu_swarm")
    handlers, levels, log_format = root.handlers[:], (root.level, ours.level), log._format
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    log._format = log_format


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A `tests.loopback.Loopback`: peers in this process, ended when the module's tests are over."""
    # Imported here: tests without a network do without hivemind.
    from tests.loopback import Loopback

    swarm = Loopback(tmp_path_factory.mktemp("loopback"))
    yield swarm
    swarm.close()
