"""A checkpoint on disk: a package in transformers' layout, one shard for each block.

    layout       names of the files, and which tensors lie in which
    tensor_file  one safetensors file: its header checked, then tensors read in pieces
    reading      a span, the ends or the whole model, from only the files and bytes it needs
    writing      a checkpoint appears whole or not at all
    int8         the same with int8 projections, a package of its own: written, and read back

The folder:

    config.json                    sizes, as transformers writes them
    model.safetensors.index.json   tensor name → shard
    model-block-00000.safetensors  one block; a peer fetches only those of its span
    model-ends.safetensors         embeddings and final norm (and the head where untied)
    tokenizer_config.json          loads ByT5Tokenizer; generation_config.json
    README.md                      the model card; not in the manifest, so it may be amended

Stock transformers loads the folder without this package. The same tensors give the same bytes and
so the same digest. A folder with one `model.safetensors` and no manifest, as transformers saves
small models, is read too; float16 and bfloat16 weights become float32, which is exact. What is read
is checked strictly: digests where there is a manifest, names, shapes, types, finite values. Knows
nothing of rounds and of who publishes.
"""

from seshu_swarm.checkpoints.layout import (
    CARD,
    CONFIG,
    ENDS_SHARD,
    INDEX,
    KIND,
    WHOLE_FILE,
    block_shard,
    files_for_ends,
    files_for_span,
)
from seshu_swarm.checkpoints.reading import (
    StoredTensors,
    load_ends,
    load_span,
    load_tensors,
    load_whole,
    read_shape,
)
from seshu_swarm.checkpoints.writing import byte_tokeniser, save_checkpoint

__all__ = [
    "CARD",
    "CONFIG",
    "ENDS_SHARD",
    "INDEX",
    "KIND",
    "WHOLE_FILE",
    "StoredTensors",
    "block_shard",
    "byte_tokeniser",
    "files_for_ends",
    "files_for_span",
    "load_ends",
    "load_span",
    "load_tensors",
    "load_whole",
    "read_shape",
    "save_checkpoint",
]
