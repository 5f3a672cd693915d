"""The operators on CUDA devices. Never run on one so far; each option checks itself before it is used.

available     which options run here, fastest first, and why the others do not
selfcheck     an option against plain torch on the device itself
launch        the module of the kernels, imported late, and the device of a launch
scan          the selective scan by our own Triton kernels: `scan_triton`
conv          the causal convolution: `conv_triton`
norm          the RMS norm: `norm_triton`
fused         the scan of mamba_ssm and the convolution of causal_conv1d where they are installed

Importing these imports no Triton, except for the files of kernels, which a launch imports.
"""
