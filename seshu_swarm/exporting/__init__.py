"""A checkpoint in other programs' forms: GGUF for llama.cpp.

config           settings of `python -m seshu_swarm export`
byte_vocabulary  bytes as llama.cpp's tokeniser has them (pure)
gguf_names       names, shapes and numbers of tensors there
gguf_file        the file, tensor by tensor, by the `gguf` package
placing          which folder is exported, and where to: nothing is overwritten
run              the command

Knows no run and no swarm.
"""
