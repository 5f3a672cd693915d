"""`python -m seshu_swarm.coordinator`: keep a run. Parses first, imports what is heavy after."""

import sys

from seshu_swarm.coordinator.config import (
    DashboardConfig,
    OpenConfig,
    PretrainConfig,
    RoundConfig,
    RunConfig,
    StatusConfig,
    VerifyConfig,
)
from seshu_swarm.coordinator.research.config import RecordConfig, SimulateConfig
from seshu_swarm.coordinator.upkeep.config import (
    BackupConfig,
    RestoreConfig,
    RevealConfig,
    RevokeConfig,
)
from seshu_swarm.program import cli
from seshu_swarm.program.cli import Command

ROLE = "seshu_swarm.coordinator"
COMMANDS = (
    Command("open", OpenConfig, f"{ROLE}.opening.command:run", "Make a run from text."),
    Command(
        "pretrain", PretrainConfig, f"{ROLE}.pretraining.command:run", "Train the run's base model."
    ),
    Command("run", RunConfig, f"{ROLE}.lifecycle:run", "Serve the run, train it, hold its rounds."),
    Command("revoke", RevokeConfig, f"{ROLE}.upkeep.revoking:run", "Take a merged adapter out."),
    Command("reveal", RevealConfig, f"{ROLE}.upkeep.revealing:run", "Publish retired sets."),
    Command("backup", BackupConfig, f"{ROLE}.upkeep.backup:run", "Copy what cannot be made again."),
    Command("restore", RestoreConfig, f"{ROLE}.upkeep.restore:run", "A run folder from a backup."),
    Command("status", StatusConfig, f"{ROLE}.showing.status:run", "Show the run and its rounds."),
    Command(
        "dashboard", DashboardConfig, f"{ROLE}.web.command:run", "Serve the run as a page to see."
    ),
    Command("round", RoundConfig, f"{ROLE}.showing.round:run", "Show one round's verdicts."),
    Command(
        "verify",
        VerifyConfig,
        f"{ROLE}.showing.verifying:run",
        "Merge a round again, compare digests.",
    ),
    Command(
        "simulate",
        SimulateConfig,
        f"{ROLE}.research.simulating:run",
        "Replay recorded rounds under another rule.",
    ),
    Command(
        "record",
        RecordConfig,
        f"{ROLE}.research.recording.command:run",
        "Make a set of adapters with verdicts, to simulate on.",
    ),
)


def main() -> int:
    about = "Keep a Seshu run: open it, pretrain its base, hold its rounds."
    return cli.main(f"python -m {ROLE}", COMMANDS, about=about)


if __name__ == "__main__":
    sys.exit(main())
