"""Proof of a score: the text, arithmetic-coded with the model, in a file that decodes to it.

walking     steps through many texts at once, the same way to code and to decode
coding      symbols to and from bits by their probabilities
proof_file  what the file says besides: whose weights, which windows, how many texts
proving     write the file, decode it in a fresh process, compare bytes and sizes
"""
