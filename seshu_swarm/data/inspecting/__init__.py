"""`data inspect`: what is in a folder or a file of text, read once, in memory that does not grow.

    config   settings of the command      reading   items of any file, broken ones named
    lengths  quantiles by a histogram     repeats   duplicates by sampled hashes
    summary  numbers of each language     kept      what a build's books say was kept
    picture  plots                        showing   tables for people
    run      the command

Knows no role, no model and no network.
"""
