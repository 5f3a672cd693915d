"""What any model must beat: compressors that know no language.

    ngram     an interpolated byte n-gram that goes on learning from what it has read
    packers   PPMd and xz, as files they would write

All three read the training text first, where there is one, and the scored text in its order.
"""
