"""A checkpoint as one GGUF file for llama.cpp's `mamba` architecture, in float32.

Tensors are read and written one at a time, so a model need not fit into memory. The bytes depend
on the checkpoint and the name alone. The format is that of the `gguf` package, which is imported
here and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch

from seshu_swarm.checkpoints import StoredTensors
from seshu_swarm.data.tokeniser import NUM_BYTES, NUM_SPECIAL
from seshu_swarm.errors import UsageError, from_os_error
from seshu_swarm.exporting.byte_vocabulary import byte_vocabulary
from seshu_swarm.exporting.gguf_names import converted, renamed
from seshu_swarm.mamba.shape import END_ID, PAD_ID, MambaShape

ARCHITECTURE = "mamba"
# As llama.cpp's own converter has it: a recurrent model has no longest context.
CONTEXT_TOKENS = 1 << 20
UNKNOWN_ID = 2
# One of the cutting rules that leave the space before a full stop where it is.
PRE_TOKENISER = "qwen2"

OnTensor = Callable[[float], None]


def write_gguf(folder: Path, path: Path, *, name: str, on_tensor: OnTensor) -> None:
    """Write `path` whole or not at all; `on_tensor` hears how much is done, 0 to 1.

    Raises PackageError (no checkpoint), UsageError (a shape that llama.cpp does not compute),
    DiskFullError, ResourceError.
    """
    stored = StoredTensors.open(folder)
    check_shape(stored.shape)
    partial = path.with_name(path.name + ".partial")
    try:
        _write(stored, partial, name, on_tensor)
        os.replace(partial, path)
    except OSError as error:
        raise from_os_error(error, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def check_shape(shape: MambaShape) -> None:
    """Raises UsageError."""
    if shape.expand != 2:
        raise UsageError(
            f"a model with expand {shape.expand}",
            rule="llama.cpp computes d_inner = 2 d_model only",
        )
    least = NUM_SPECIAL + NUM_BYTES
    if shape.vocab_size < least:
        raise UsageError(
            f"a vocabulary of {shape.vocab_size} ids",
            rule=f"{least} or more: three special ones and 256 bytes",
        )


def _write(stored: StoredTensors, path: Path, name: str, on_tensor: OnTensor) -> None:
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    tensors = list(renamed(stored.shape))
    try:
        _add_sizes(writer, stored.shape, name)
        _add_vocabulary(writer, stored.shape.vocab_size)
        for tensor in tensors:
            kind = np.dtype(np.float32)
            writer.add_tensor_info(tensor.name, tensor.shape, kind, tensor.num_bytes)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for number, tensor in enumerate(tensors, start=1):
            values = torch.empty(tensor.source_shape, dtype=torch.float32)
            stored.read_into({tensor.source: values})
            writer.write_tensor_data(converted(tensor, values).contiguous().numpy())
            on_tensor(number / len(tensors))
    finally:
        writer.close()


def _add_sizes(writer: gguf.GGUFWriter, shape: MambaShape, name: str) -> None:
    """The loader asks for attention's sizes of every architecture; here they are none."""
    writer.add_name(name)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(shape.d_model)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(shape.num_blocks)
    writer.add_ssm_conv_kernel(shape.d_conv)
    writer.add_ssm_inner_size(shape.d_inner)
    writer.add_ssm_state_size(shape.d_state)
    writer.add_ssm_time_step_rank(shape.dt_rank)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_vocabulary(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    """Nothing is put before or after a text: who wants an end token gives it."""
    vocabulary = byte_vocabulary(vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENISER)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_token_merges(vocabulary.merges)
    # A packed text follows an end token, so that is what a text begins after.
    writer.add_bos_token_id(END_ID)
    writer.add_eos_token_id(END_ID)
    writer.add_pad_token_id(PAD_ID)
    writer.add_unk_token_id(UNKNOWN_ID)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
