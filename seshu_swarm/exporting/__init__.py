"""A checkpoint in other forms: GGUF for llama.cpp, and int8 for CPUs.

config           settings of `python -m seshu_swarm export`
byte_vocabulary  bytes as llama.cpp's tokeniser has them (pure)
gguf_names       names, shapes and numbers of tensors there
gguf_file        the file, tensor by tensor, by the `gguf` package
comparing        what int8 costs and saves
placing          which folder is exported, and where to: nothing is overwritten
run              the command

The int8 folder itself is `checkpoints/int8`. Knows no run and no swarm.
"""
