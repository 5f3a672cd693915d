"""The operators as native code for CPUs: plain C, loaded with ctypes, differentiable in everything.

sources   the C: one vector of channels at a time, for every instruction set
build     compiling it (standard library only; setup.py uses it)
loading   the library for this machine: installed, cached, compiled now, or none
library   its structures and calls
scan      selective scan     conv   causal convolution + SiLU     norm   RMS norm
    step      one token through all blocks of a span; a few rows times a matrix
    limits    how fast this processor exponentiates, for benches
"""
