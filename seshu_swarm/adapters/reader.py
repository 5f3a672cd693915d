"""The strict reader: a donor's folder becomes an `Adapter`, or is refused by name.

Order: manifest, sizes, digests, header, configuration, keys and shapes; only then does safetensors
read the very bytes that were checked. Nothing here is handed to peft, which overwrites base weights
from an extra key without a warning. Does not know the author, and does not judge whether it helps.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from seshu_swarm.adapters.header import TensorEntry, parse_header
from seshu_swarm.adapters.lora_config import LoraSettings, parse_lora_config
from seshu_swarm.adapters.refusals import AdapterRefusal, refuse
from seshu_swarm.adapters.rules import (
    ALLOWED_FILES,
    CONFIG_FILE,
    KEY_PREFIX,
    KIND,
    TENSOR_FILE,
    AdapterRules,
    expected_tensors,
)
from seshu_swarm.errors import DigestError, PackageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.packages import Manifest, read_manifest

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Adapter:
    """Module name → (A of shape (rank, in), B of shape (out, rank)), as stored.

    `scale` is alpha / rank, `digest` the package's, `about` the manifest's own facts.
    """

    digest: str
    rank: int
    scale: float
    pairs: dict[str, Pair]
    about: Mapping[str, object] = field(default_factory=dict)


def read_adapter(
    folder: Path,
    *,
    shape: MambaShape,
    rules: AdapterRules,
    digest: str | None = None,
    base_revision: str | None = None,
) -> Adapter:
    """Read and check the adapter package in `folder`.

    `digest` is the announced digest of the package, `base_revision` the revision that its manifest
    must name under the same key. Raises AdapterError; its text begins with an AdapterRefusal.
    """
    manifest = _manifest(folder, digest)
    found = manifest.about.get("base_revision")
    if base_revision is not None and found != base_revision:
        raise refuse(
            AdapterRefusal.STALE_BASE,
            f"trained on {str(found)[:12]}",
            rule=f"the round's base is {base_revision[:12]}",
        )
    config = _bytes(folder, CONFIG_FILE, manifest, rules.max_config_bytes)
    data = _bytes(folder, TENSOR_FILE, manifest, rules.max_file_bytes)
    entries = parse_header(data, max_header_bytes=rules.max_header_bytes)
    settings = parse_lora_config(config, rules)
    _check_tensors(entries, settings, shape)
    pairs = _pairs(safetensors.torch.load(data))
    _check_values(pairs, settings.scale, rules)
    return Adapter(manifest.digest, settings.rank, settings.scale, pairs, manifest.about)


def _manifest(folder: Path, digest: str | None) -> Manifest:
    try:
        manifest = read_manifest(folder, digest)
    except DigestError as error:
        raise refuse(AdapterRefusal.DIGEST_MISMATCH, error.what, rule=error.rule) from None
    except PackageError as error:
        raise refuse(AdapterRefusal.BAD_MANIFEST, error.what, rule=error.rule) from None
    if manifest.kind != KIND:
        raise refuse(
            AdapterRefusal.BAD_MANIFEST, f"package of kind {manifest.kind!r}", rule=f"kind {KIND!r}"
        )
    for name in manifest.files:
        if name not in ALLOWED_FILES:
            raise refuse(AdapterRefusal.EXTRA_FILE, f"the package holds {name!r}")
    return manifest


def _bytes(folder: Path, name: str, manifest: Manifest, max_bytes: int) -> bytes:
    """The file's bytes, read once, so that what was checked is what is used."""
    entry, path = manifest.files.get(name), folder / name
    if entry is None:
        raise refuse(AdapterRefusal.BAD_MANIFEST, f"the manifest does not name {name}")
    if path.is_symlink() or not path.is_file():
        raise refuse(AdapterRefusal.NOT_A_FILE, f"{name} is missing or not a plain file")
    size_bytes = path.stat().st_size
    if size_bytes > max_bytes:
        raise refuse(
            AdapterRefusal.FILE_TOO_LARGE,
            f"{name} of {size_bytes} bytes",
            rule=f"at most {max_bytes}",
        )
    data = path.read_bytes()
    if len(data) < entry.size_bytes:
        raise refuse(
            AdapterRefusal.TRUNCATED,
            f"{name} of {len(data)} bytes",
            rule=f"{entry.size_bytes} sealed",
        )
    if hashlib.sha256(data).hexdigest() != entry.digest:
        raise refuse(AdapterRefusal.DIGEST_MISMATCH, f"{name} was changed after it was sealed")
    return data


def _check_tensors(
    entries: dict[str, TensorEntry], settings: LoraSettings, shape: MambaShape
) -> None:
    expected = expected_tensors(settings.targets, settings.rank, shape)
    for key in entries:
        if key not in expected:
            raise refuse(
                AdapterRefusal.FORBIDDEN_KEY,
                f"tensor {key[:100]!r}",
                rule=f"only lora_A and lora_B of {', '.join(settings.targets)} in "
                f"{shape.num_blocks} blocks",
            )
    for key, wanted in expected.items():
        if key not in entries:
            raise refuse(AdapterRefusal.MISSING_TENSOR, f"no tensor {key!r}")
        _check_shape(key, entries[key].shape, wanted)


def _check_shape(key: str, found: tuple[int, ...], wanted: tuple[int, int]) -> None:
    if found == wanted:
        return
    rank_axis = 0 if "lora_A" in key else 1
    is_only_rank = len(found) == 2 and found[1 - rank_axis] == wanted[1 - rank_axis]
    name = AdapterRefusal.RANK_MISMATCH if is_only_rank else AdapterRefusal.WRONG_SHAPE
    raise refuse(name, f"{key} has shape {found}", rule=f"{wanted} by the model and the config's r")


def _pairs(tensors: dict[str, torch.Tensor]) -> dict[str, Pair]:
    suffix = ".lora_A.weight"
    modules = sorted(key.removesuffix(suffix) for key in tensors if key.endswith(suffix))
    return {
        module.removeprefix(KEY_PREFIX): (
            tensors[f"{module}.lora_A.weight"],
            tensors[f"{module}.lora_B.weight"],
        )
        for module in modules
    }


def _check_values(pairs: dict[str, Pair], scale: float, rules: AdapterRules) -> None:
    for module, pair in pairs.items():
        if not all(bool(torch.isfinite(factor).all()) for factor in pair):
            raise refuse(AdapterRefusal.NOT_FINITE, f"{module} holds NaN or infinity")
    if not any(bool(B.any()) for _, B in pairs.values()):
        raise refuse(AdapterRefusal.UNTRAINED, "every lora_B is zero")
    norm = math.sqrt(math.fsum(squared_norm(A, B) for A, B in pairs.values())) * scale
    if norm == 0.0:
        raise refuse(AdapterRefusal.ZERO_DELTA, "B·A is zero in every module")
    if not norm <= rules.max_delta_norm:
        raise refuse(
            AdapterRefusal.TOO_STRONG,
            f"ΔW has norm {norm:.3g}",
            rule=f"at most {rules.max_delta_norm:g}",
        )


def squared_norm(A: torch.Tensor, B: torch.Tensor) -> float:
    """‖B·A‖² (Frobenius) in float64 from rank × rank products: tr((BᵀB)(AAᵀ)).

    The same bits whatever the machine's threads: merges are clipped by it, and must come out with
    the same digest elsewhere. A product by BLAS adds in an order that depends on them.
    """
    products = _gram(B) * _gram(A.T)
    return max(0.0, math.fsum(products.ravel().tolist()))


def _gram(columns: torch.Tensor) -> NDArray[np.float64]:
    """Inner products of the columns of a (length, rank) matrix, summed row after row."""
    values = np.ascontiguousarray(columns.double().numpy())
    return np.stack([np.add.reduce(values * one[:, None], axis=0) for one in values.T])
