"""`python -m seshu_swarm export FOLDER`: the checkpoint in another program's form."""

from __future__ import annotations

from pathlib import Path

from seshu_swarm import log
from seshu_swarm.errors import ResourceError
from seshu_swarm.exporting.config import ExportConfig
from seshu_swarm.exporting.placing import must_be_of_bytes, place_of, source_of
from seshu_swarm.packages import digest_of
from seshu_swarm.progress import Bar
from seshu_swarm.reports import Result, check_place, write_report


def run(settings: ExportConfig) -> int:
    if settings.report:
        check_place(Path(settings.report))
    path, results = export_gguf(settings)
    if settings.report:
        write_report(
            Path(settings.report),
            command="export",
            settings=settings,
            rows=[],
            results=results,
            written=str(path),
        )
    return 0


def export_gguf(settings: ExportConfig) -> tuple[Path, dict[str, Result]]:
    """The file, and numbers by name. Raises what `placing` and `gguf_file` raise, ResourceError."""
    folder, shape = source_of(settings.model)
    must_be_of_bytes(folder)
    path = place_of(settings.out, folder, ".gguf")
    try:
        from seshu_swarm.exporting.gguf_file import write_gguf
    except ImportError as error:
        if error.name != "gguf":
            raise
        raise ResourceError(
            "the package gguf is not installed",
            rule="GGUF files are written with it",
            way_out="pip install -e '.[export]'",
        ) from None
    with Bar("export") as bar:
        write_gguf(folder, path, name=folder.resolve().name, on_tensor=bar.update)
    results: dict[str, Result] = {
        "parameters": shape.num_parameters,
        "file_bytes": path.stat().st_size,
    }
    said = f"{path}: {shape.num_parameters:,} parameters, {path.stat().st_size:,} bytes"
    log.event("exported", said, path=str(path), sha256=digest_of(path), **results)
    return path, results
