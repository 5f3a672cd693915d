"""A model of bytes with int8 projections: written from a checkpoint, read back ready to run.

The folder is a package (its manifest names every file with its digest):

    config.json              sizes, as in the checkpoint
    model-int8.safetensors   NAME int8 and NAME.scale float32 for each projection of a block, float32
                             for everything else: embeddings, norms, convolutions, dt_proj, A_log, D
    tokenizer_config.json    where the checkpoint has one

What stays float32 is some per cent of a model and, in a recurrence, what errors grow in. Knows no
transformers; stock transformers does not read the folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors_torch
from torch import Tensor, nn

from seshu_swarm import checkpoints, packages
from seshu_swarm.errors import PackageError, from_os_error
from seshu_swarm.mamba.int8_linear import Int8Linear, rounded
from seshu_swarm.mamba.shape import MambaShape, block_prefix
from seshu_swarm.mamba.whole import WholeModel

KIND = "int8 checkpoint"
FILE = "model-int8.safetensors"
TOKENISER = "tokenizer_config.json"
PROJECTIONS = ("in_proj", "x_proj", "out_proj")
SCALE = ".scale"
WAY_OUT = "export the checkpoint again"


def projections(shape: MambaShape) -> list[str]:
    """Global names of the weights that become int8."""
    return [
        f"{block_prefix(index)}mixer.{name}.weight"
        for index in range(shape.num_blocks)
        for name in PROJECTIONS
    ]


def int8_tensors(shape: MambaShape, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Everything the file holds, by name."""
    found = dict(tensors)
    for name in projections(shape):
        found[name], scale_O1 = rounded(tensors[name])
        found[name + SCALE] = scale_O1[:, 0].contiguous()
    return found


def write_int8(source: Path, folder: Path) -> str:
    """Write the package, whole or not at all; its digest. Raises PackageError, DiskFullError."""
    shape = checkpoints.read_shape(source)
    tensors = int8_tensors(shape, checkpoints.load_tensors(source))
    has_manifest = (source / packages.MANIFEST).exists()
    parent = packages.read_manifest(source).digest if has_manifest else None
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        names = [checkpoints.CONFIG, FILE]
        (partial / FILE).write_bytes(safetensors_torch.save(tensors, {"format": "pt"}))
        config = json.dumps(shape.to_config(), indent=2, sort_keys=True) + "\n"
        (partial / checkpoints.CONFIG).write_text(config, encoding="utf-8")
        if (source / TOKENISER).is_file():
            shutil.copyfile(source / TOKENISER, partial / TOKENISER)
            names.append(TOKENISER)
        digest = packages.seal(partial, KIND, names, {"parent": parent, "method": "dynamic int8"})
        packages.publish_folder(partial, folder)
    except OSError as error:
        raise from_os_error(error, str(folder)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return digest


def is_int8(folder: Path) -> bool:
    """Whether the folder is such a package, as its manifest says. Raises PackageError."""
    if not (folder / packages.MANIFEST).is_file():
        return False
    return packages.read_manifest(folder).kind == KIND


def load_int8(folder: Path) -> WholeModel:
    """The model, for inference on a CPU. Raises PackageError where anything is not as written."""
    manifest = packages.verify(folder)
    if manifest.kind != KIND or FILE not in manifest.files:
        raise PackageError(
            f"{folder} is a {manifest.kind!r}"[:200], rule=f"an {KIND} is wanted", way_out=WAY_OUT
        )
    shape = checkpoints.read_shape(folder)
    tensors = _read(folder / FILE, shape)
    with torch.device("meta"):
        model = WholeModel(shape)
    for index, block in enumerate(model.span.blocks):
        mixer: Any = block.mixer
        for name in PROJECTIONS:
            key = f"{block_prefix(index)}mixer.{name}.weight"
            setattr(mixer, name, Int8Linear(tensors[key], tensors[key + SCALE]))
    for name, module, attribute in _parameters(model):
        setattr(module, attribute, nn.Parameter(tensors[name], requires_grad=False))
    return model.eval()


def _parameters(model: WholeModel) -> list[tuple[str, nn.Module, str]]:
    """Global name of each parameter, the module that holds it, and its name there."""
    found = []
    for path, module in model.named_modules():
        for attribute, _ in list(module.named_parameters(recurse=False)):
            found.append((_global_name(f"{path}.{attribute}"), module, attribute))
    return found


def _global_name(name: str) -> str:
    if name.startswith("span.blocks."):
        index, _, inside = name.removeprefix("span.blocks.").partition(".")
        return block_prefix(int(index)) + inside
    inside = name.removeprefix("ends.")
    return inside if inside.startswith("lm_head.") else f"backbone.{inside}"


def _read(path: Path, shape: MambaShape) -> dict[str, Tensor]:
    """Exactly the tensors of the shape, of their types, with finite numbers."""
    expected = _expected(shape)
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise PackageError(f"{path} is not readable: {error}"[:300], way_out=WAY_OUT) from None
    if {n: (t.dtype, tuple(t.shape)) for n, t in found.items()} != expected:
        raise PackageError(
            f"{path} holds other tensors", rule="those of its config.json", way_out=WAY_OUT
        )
    if not all(bool(t.isfinite().all()) for t in found.values() if t.dtype == torch.float32):
        raise PackageError(f"{path} holds infinite or undefined numbers", way_out=WAY_OUT)
    return found


def _expected(shape: MambaShape) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    found = {name: (torch.float32, size) for name, size in shape.all_tensors().items()}
    for name in projections(shape):
        size = found[name][1]
        found[name] = (torch.int8, size)
        found[name + SCALE] = (torch.float32, size[:1])
    return found
