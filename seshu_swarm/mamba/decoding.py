"""One token through a span's blocks by one native call, where that is possible.

It is possible without gradients, in float32, on a CPU with native kernels, and while projections are
plain `nn.Linear` (an adapter that wraps one is run by the blocks themselves).

Shapes: K blocks, B batch, M d_model, D d_inner, N d_state, P d_conv - 1.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.block import MambaBlock
from seshu_swarm.mamba.cache import RecurrentCache
from seshu_swarm.mamba.kernels.choose import kernels_for
from seshu_swarm.mamba.shape import MambaShape

# Above it, multiplying matrices the usual way is faster than passing each row over the weights.
MAX_BATCH = 16


def step_blocks(
    shape: MambaShape,
    blocks: Iterable[nn.Module],
    hidden_BM: Tensor,
    conv_KBDP: Tensor,
    ssm_KBDN: Tensor,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The next residual stream (B, M) and both next states; None where the blocks must run.

    A row's result does not depend on the rest of its batch.
    """
    _check_states(shape, hidden_BM, conv_KBDP, ssm_KBDN)
    step = kernels_for(hidden_BM).step
    if step is None or not _is_plain(hidden_BM, conv_KBDP, ssm_KBDN):
        return None
    weights = [_weights(block) for block in blocks]
    if len(weights) != len(conv_KBDP) or any(block is None for block in weights):
        return None
    return step(shape, [w for w in weights if w is not None], hidden_BM, conv_KBDP, ssm_KBDN)


def step_cache(
    shape: MambaShape, blocks: Iterable[nn.Module], hidden_BLM: Tensor, cache: RecurrentCache
) -> Tensor | None:
    """The same for the cache of the transformers class, which is advanced; None as above."""
    if hidden_BLM.shape[1] != 1 or cache.batch is None or torch.is_grad_enabled():
        return None
    conv, ssm = zip(*(cache[index] for index in range(len(cache))), strict=True)
    done = step_blocks(shape, blocks, hidden_BLM[:, 0], torch.stack(conv), torch.stack(ssm))
    if done is None:
        return None
    hidden_BM, conv_KBDP, ssm_KBDN = done
    cache.replace(list(zip(conv_KBDP.unbind(0), ssm_KBDN.unbind(0), strict=True)))
    return hidden_BM[:, None]


def project(x_BW: Tensor, weight_RW: Tensor) -> Tensor | None:
    """(B, W) times a matrix (R, W) transposed, for the head of one token; None as above."""
    product = kernels_for(x_BW).product
    return product(x_BW, weight_RW) if product and _is_plain(x_BW, weight_RW) else None


def _check_states(shape: MambaShape, hidden_BM: Tensor, conv: Tensor, ssm: Tensor) -> None:
    """The native call goes by the shape and would read past smaller tensors. Raises UsageError."""
    batch, sizes = len(hidden_BM), (shape.d_inner, shape.d_conv - 1, shape.d_state)
    expected = (len(conv), batch, sizes[0], sizes[1]), (len(conv), batch, sizes[0], sizes[2])
    found = tuple(conv.shape), tuple(ssm.shape)
    if found != expected or hidden_BM.shape[-1] != shape.d_model:
        raise UsageError(
            f"states {found} and a residual stream {tuple(hidden_BM.shape)}",
            rule=f"{expected} and width {shape.d_model}",
        )


def _is_plain(first: Tensor, *others: Tensor) -> bool:
    return (
        not torch.is_grad_enabled()
        and len(first) <= MAX_BATCH
        and all(tensor.dtype == torch.float32 for tensor in (first, *others))
    )


def _weights(block: nn.Module) -> tuple[Tensor, ...] | None:
    """What `NativeStep` reads of a block. Attributes of modules are looked up in their dictionaries:
    the usual way costs more than the arithmetic of a small block."""
    if not isinstance(block, MambaBlock):
        return None
    mixer = block._modules["mixer"]
    parts, own = mixer._modules, mixer._parameters  # type: ignore[union-attr]
    linear = [parts[name] for name in ("in_proj", "x_proj", "dt_proj", "out_proj")]
    if any(type(part) is not nn.Linear for part in linear):
        return None
    in_proj, x_proj, dt_proj, out_proj = (part._parameters for part in linear)  # type: ignore[union-attr]
    conv = parts["conv1d"]._parameters  # type: ignore[union-attr]
    weights = (
        block._modules["norm"]._parameters["weight"],  # type: ignore[union-attr]
        *(in_proj["weight"], conv["weight"], conv["bias"], x_proj["weight"]),
        *(dt_proj["weight"], dt_proj["bias"], own["A_log"], own["D"], out_proj["weight"]),
    )
    is_usual = all(
        w is not None and w.dtype == torch.float32 and w.is_contiguous() for w in weights
    )
    return tuple(w for w in weights if w is not None) if is_usual else None
