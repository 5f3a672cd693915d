"""`python -m seshu_swarm presets`: list them, print one, or say where it lies."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from seshu_swarm.presets.catalogue import Preset, all_presets, find
from seshu_swarm.presets.config import PresetsConfig
from seshu_swarm.program import log


def run(settings: PresetsConfig) -> int:
    if settings.show:
        preset = find(settings.show)
        text = preset.path.read_text(encoding="utf-8")
        log.event("preset", text, preset=preset.name, settings=preset.settings)
    elif settings.path:
        preset = find(settings.path)
        log.event("preset", str(preset.path), preset=preset.name, path=str(preset.path))
    else:
        _list(all_presets())
    return 0


def _list(presets: list[Preset]) -> None:
    if log.is_text():
        table = Table("preset", "parameters", "what it is for")
        for number, preset in enumerate(presets):
            if number == 0 or preset.command != presets[number - 1].command:
                table.add_section()
                table.add_row("", "", f"[bold]{preset.command} --config …[/bold]")
            count = preset.num_parameters
            table.add_row(preset.name, "" if count is None else f"{count:,}", preset.sentence)
        Console().print(table)
        log.event("use", '--config "$(python -m seshu_swarm presets --path NAME)"')
    for preset in presets:
        log.fact(
            "preset",
            preset=preset.name,
            path=str(preset.path),
            command=preset.command,
            parameters=preset.num_parameters,
        )
