"""`python -m seshu_swarm` (or `seshu`): commands that belong to no role, and where the roles are."""

import sys

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.data.building.config import DataBuildConfig
from seshu_swarm.data.inspecting.config import DataInspectConfig
from seshu_swarm.data.instructions.config import DataInstructionsConfig
from seshu_swarm.data.tokenisers.config import DataTokeniserConfig
from seshu_swarm.demo.config import DemoConfig
from seshu_swarm.doctor.config import DoctorConfig
from seshu_swarm.evaluate.config import EvaluateConfig
from seshu_swarm.exporting.config import ExportConfig
from seshu_swarm.planning.config import PlanConfig
from seshu_swarm.presets.config import PresetsConfig
from seshu_swarm.program import cli
from seshu_swarm.program.cli import Command

COMMANDS = (
    Command("demo", DemoConfig, "seshu_swarm.demo.run:run", "A whole swarm round on this machine."),
    Command(
        "doctor",
        DoctorConfig,
        "seshu_swarm.doctor.run:run",
        "Say whether this machine is fit for the swarm, and what to do where it is not.",
    ),
    Command("bench", BenchConfig, "seshu_swarm.bench.run:run", "Measure something, by name."),
    Command(
        "data build",
        DataBuildConfig,
        "seshu_swarm.data.building.run:run",
        "Build a catalogue of training text from a recipe.",
    ),
    Command(
        "data inspect",
        DataInspectConfig,
        "seshu_swarm.data.inspecting.run:run",
        "Show what is in a folder of text: numbers by language, samples, plots.",
    ),
    Command(
        "data instructions",
        DataInstructionsConfig,
        "seshu_swarm.data.instructions.run:run",
        "Turn tables, talks and pairs into rows or alternating text of a run.",
    ),
    Command(
        "data tokeniser",
        DataTokeniserConfig,
        "seshu_swarm.data.tokenisers.run:run",
        "Train a tokeniser on text, and say how finely it cuts each language.",
    ),
    Command(
        "export", ExportConfig, "seshu_swarm.exporting.run:run", "A model in other programs' form."
    ),
    Command("plan", PlanConfig, "seshu_swarm.planning.run:run", "Say what a budget buys."),
    Command(
        "evaluate",
        EvaluateConfig,
        "seshu_swarm.client.evaluating:run",
        "Bits per byte of a model, beside others and beside compressors.",
    ),
    Command(
        "presets", PresetsConfig, "seshu_swarm.presets.listing:run", "List settings to train by."
    ),
)
ABOUT = """Small language models by the public, for the public.
Roles: python -m seshu_swarm.peer (donors), python -m seshu_swarm.coordinator (maintainers),
python -m seshu_swarm.client (users)."""


def main() -> int:
    return cli.main("python -m seshu_swarm", COMMANDS, about=ABOUT)


if __name__ == "__main__":
    sys.exit(main())
