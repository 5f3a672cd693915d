"""One token through the blocks of a span in one native call, without gradients.

Every sum has one order whatever the batch: what a session is given does not depend on who shares
its batch.

Shapes: K blocks, B batch, M d_model, D d_inner, N d_state, P d_conv - 1.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seshu_swarm.mamba.kernels.native.library import (
    Library,
    ProductCall,
    StepBlock,
    StepCall,
    address,
)
from seshu_swarm.mamba.shape import MambaShape

# Bytes of weights that one more thread must have to read before it is worth waking.
BYTES_OF_A_THREAD = 1 << 21


@dataclass(frozen=True, eq=False)
class NativeStep:
    """`step(shape, weights, hidden, conv, ssm)`: the next residual stream and both next states.

    `weights` has ten float32 tensors for each block, in the order of `StepBlock`; hidden (B, M),
    conv (K, B, D, P), ssm (K, B, D, N). What is given stays as it is.
    """

    library: Library

    def __call__(
        self,
        shape: MambaShape,
        weights: Sequence[Sequence[Tensor]],
        hidden_BM: Tensor,
        conv_KBDP: Tensor,
        ssm_KBDN: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden_BM = hidden_BM.clone(memory_format=torch.contiguous_format)
        conv_KBDP, ssm_KBDN = conv_KBDP.contiguous(), ssm_KBDN.contiguous()
        next_conv, next_ssm = torch.empty_like(conv_KBDP), torch.empty_like(ssm_KBDN)
        blocks = (StepBlock * len(weights))(
            *(StepBlock(*(t.data_ptr() for t in block)) for block in weights)
        )
        weight_bytes = len(weights) * 12 * shape.d_model * shape.d_inner
        call = StepCall(
            batch=len(hidden_BM),
            num_blocks=len(weights),
            d_model=shape.d_model,
            d_inner=shape.d_inner,
            d_state=shape.d_state,
            d_conv=shape.d_conv,
            dt_rank=shape.dt_rank,
            threads=_threads(weight_bytes),
            epsilon=shape.norm_epsilon,
            blocks=ctypes.cast(blocks, ctypes.POINTER(StepBlock)),
            hidden=address(hidden_BM),
            conv=address(conv_KBDP),
            next_conv=address(next_conv),
            ssm=address(ssm_KBDN),
            next_ssm=address(next_ssm),
        )
        self.library.call("step", torch.float32, call)
        return hidden_BM, next_conv, next_ssm


@dataclass(frozen=True, eq=False)
class NativeProduct:
    """`product(x, weight)`: (B, W) times a matrix (R, W) transposed, (B, R), without gradients."""

    library: Library

    def __call__(self, x_BW: Tensor, weight_RW: Tensor) -> Tensor:
        x_BW, weight_RW = x_BW.contiguous(), weight_RW.contiguous()
        out_BR = x_BW.new_empty(x_BW.shape[0], weight_RW.shape[0])
        call = ProductCall(
            batch=x_BW.shape[0],
            rows=weight_RW.shape[0],
            width=weight_RW.shape[1],
            threads=_threads(weight_RW.nbytes),
            matrix=address(weight_RW),
            x=address(x_BW),
            out=address(out_BR),
        )
        self.library.call("product", torch.float32, call)
        return out_BR


def _threads(weight_bytes: int) -> int:
    return max(1, min(torch.get_num_threads(), weight_bytes // BYTES_OF_A_THREAD))
