"""Names of a checkpoint's files, and which tensors lie in which. Knows no tensor and no disk."""

from __future__ import annotations

from collections.abc import Collection

from seshu_swarm.errors import PackageError, shown
from seshu_swarm.mamba.shape import MambaShape, block_prefix
from seshu_swarm.spans import Span

KIND = "checkpoint"
CONFIG = "config.json"
CARD = "README.md"
ENDS_SHARD = "model-ends.safetensors"
WHOLE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def block_shard(block_index: int) -> str:
    return f"model-block-{block_index:05d}.safetensors"


def span_shards(span: Span) -> list[str]:
    return [block_shard(block_index) for block_index in span]


def files_for_span(span: Span) -> list[str]:
    """Names of the files that `load_span` reads, besides the manifest."""
    return [CONFIG, *span_shards(span)]


def files_for_ends() -> list[str]:
    """Names of the files that `load_ends` reads, besides the manifest."""
    return [CONFIG, ENDS_SHARD]


def names_by_file(shape: MambaShape) -> dict[str, list[str]]:
    """Shard → global names of its tensors; the blocks in order, then the ends."""
    files = {
        block_shard(index): [block_prefix(index) + name for name in shape.block_tensors()]
        for index in range(shape.num_blocks)
    }
    return files | {ENDS_SHARD: list(shape.ends_tensors())}


def check_names(found: Collection[str], expected: Collection[str], *, source: str) -> None:
    """Exactly the expected tensors, no more and no fewer. Raises PackageError."""
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or extra:
        kind = "lacks" if missing else "holds besides"
        raise PackageError(
            f"{source} {kind} {_counted(missing or extra)}",
            rule=f"exactly the {len(expected)} tensors that its config.json implies",
            way_out="fetch or copy the files again, all from one revision",
        )


def _counted(names: list[str]) -> str:
    """The first of the names, which may be a stranger's, and how many others there are."""
    return shown(names[0]) + (f" and {len(names) - 1} more tensors" if names[1:] else "")
