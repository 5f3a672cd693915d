"""What is light stays light: measured in fresh interpreters."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time

import pytest

from seshu_swarm.program.cli import Command

HEAVY = ("torch", "hivemind", "transformers", "peft", "datasets", "mamba_ssm", "safetensors")
PURE = [
    *("__init__", "errors", "packages", "spans", "program.config", "program.cli", "program.log"),
    *("program.running", "records.kinds", "records.uids", "network.link", "network.line"),
    *("streams.protocol", "streams.frames", "streams.channel", "streams.outbox"),
    *("stores.references", "exchange.session_messages"),
    *("peer.config", "peer.roles", "peer.guest", "peer.__main__"),
    *("client.config", "client.chain.routing", "client.__main__", "__main__"),
    *("coordinator.config", "coordinator.rounds.states", "coordinator.state.ledger"),
    *("coordinator.state.run_folder", "coordinator.state.lineage", "coordinator.state.readings"),
    *("coordinator.upkeep.config", "coordinator.__main__", "demo.config", "bench.config"),
    "peer.donating.verdicts",
    *("mamba.shape", "stores.base", "stores.file"),
    *("sessions.messages", "sessions.log", "sessions.part", "sessions.conversation"),
    *("sessions.recovery", "client.chain.patience"),
]
MAINS = ["seshu_swarm", "seshu_swarm.peer", "seshu_swarm.client", "seshu_swarm.coordinator"]
HELP_SECONDS = 1.0


def loaded_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after the statement."""
    script = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", PURE)
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    name = f"seshu_swarm.{module}".removesuffix(".__init__")
    loaded = loaded_after(f"import {name}")
    assert name in loaded
    assert not loaded & set(HEAVY)


def test_a_heavy_import_would_be_seen() -> None:
    assert "torch" in loaded_after("import seshu_swarm.streams.wire")


def test_hosting_needs_torch_and_hivemind_and_nothing_of_training() -> None:
    loaded = loaded_after("import seshu_swarm.peer.host")
    assert {"torch", "hivemind"} <= loaded
    assert not loaded & {"transformers", "peft", "datasets", "huggingface_hub", "pandas"}


def commands() -> list[tuple[str, ...]]:
    """Every `python -m MODULE [COMMAND]` that there is."""
    found: list[tuple[str, ...]] = []
    for module in MAINS:
        table: tuple[Command, ...] = importlib.import_module(f"{module}.__main__").COMMANDS
        found += [(module,), *((module, *command.name.split()) for command in table)]
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_comes_at_once(words: tuple[str, ...]) -> None:
    """Best of three: other processes may hold the machine for a moment."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *words, "--help"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        best = min(best, time.perf_counter() - began)
        if best < HELP_SECONDS:
            break
    assert done.returncode == 0 and "usage:" in done.stdout and done.stderr == ""
    assert best < HELP_SECONDS, f"{best:.2f} s"


@pytest.mark.parametrize("module", MAINS)
def test_every_command_names_a_function_that_exists(module: str) -> None:
    for command in importlib.import_module(f"{module}.__main__").COMMANDS:
        where, _, function = command.run.partition(":")
        assert callable(getattr(importlib.import_module(where), function)), command.run
