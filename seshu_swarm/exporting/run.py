"""`python -m seshu_swarm export FOLDER`: the checkpoint in another program's form."""

from __future__ import annotations

from pathlib import Path

from seshu_swarm.errors import ResourceError
from seshu_swarm.exporting.config import ExportConfig
from seshu_swarm.exporting.placing import must_be_of_bytes, place_of, source_of
from seshu_swarm.packages import digest_of
from seshu_swarm.program import log
from seshu_swarm.program.progress import Bar
from seshu_swarm.program.reports import Result, check_place, write_report


def run(settings: ExportConfig) -> int:
    if settings.report:
        check_place(Path(settings.report))
    path, results = export_gguf(settings) if settings.gguf else export_int8(settings)
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


def export_int8(settings: ExportConfig) -> tuple[Path, dict[str, Result]]:
    """The folder, and numbers by name. Raises what `placing`, `checkpoints.int8` and `comparing` raise."""
    folder, _ = source_of(settings.model)
    # The loss is measured on bytes, so the ids must be bytes.
    must_be_of_bytes(folder)
    path = place_of(settings.out, folder, "-int8")
    # torch takes a second to import, and a wrong path needs none of it.
    import torch

    from seshu_swarm import checkpoints
    from seshu_swarm.checkpoints import int8
    from seshu_swarm.exporting import comparing

    torch.set_num_threads(settings.max_threads)
    windows = comparing.windows_of(settings.text, max_bytes=settings.text_bytes)
    before = comparing.score(checkpoints.load_whole(folder), windows)
    digest = int8.write_int8(folder, path)
    after = comparing.score(int8.load_int8(path), windows)
    results: dict[str, Result] = {
        "bits_per_byte_before": before.bits_per_byte,
        "bits_per_byte_after": after.bits_per_byte,
        "bytes_before": comparing.tensor_bytes(folder),
        "bytes_after": comparing.tensor_bytes(path),
        "bytes_per_second_before": before.bytes_per_second,
        "bytes_per_second_after": after.bytes_per_second,
        "scored_bytes": sum(window.num_bytes for window in windows),
    }
    log.event("exported", _int8_said(path, results), path=str(path), revision=digest, **results)
    return path, results


def _int8_said(path: Path, found: dict[str, Result]) -> str:
    change = found["bits_per_byte_after"] - found["bits_per_byte_before"]
    size = found["bytes_after"] / found["bytes_before"]
    return (
        f"{path}: {found['bytes_after']:,} bytes of tensors for {found['bytes_before']:,} ({size:.0%})\n"
        f"bits per byte {found['bits_per_byte_before']:.4f} → {found['bits_per_byte_after']:.4f} "
        f"({change:+.4f}) on {found['scored_bytes']:,} bytes; scored at "
        f"{found['bytes_per_second_before']:,.0f} → {found['bytes_per_second_after']:,.0f} bytes/s"
    )
