"""`data build`: a recipe's sources as a catalogue of shards, every row in and out of it counted.

    config   settings of the command       recipe         what a recipe says, strictly
    lines    lines of large files          sources        files and data sets as raw rows
    pieces   what one worker reads at once cleaning       NFC, newlines, what is broken
    signals  numbers about one text        filters        which texts are kept, and why not
    wordlists  lists of words and phrases  contamination  text that hold-outs have
    classes  letters, digits, symbols      near           MinHash signatures
    duplicates     who repeats whom
    tally    rows in and out, by reason    spool          what survived reading, on disk
    reading  one piece, from source to spool
    settling one language: duplicates      mixture        how often each language's text is taken
    packing  shards of one language        manifest       the catalogue and its books
    work     the folder of unfinished work workers        processes
    run      the command

A build goes through three stages. Pieces are *read* into spools, languages are *settled* (what
repeats is marked) and *packed* into shards. Each task of a stage ends with one file that says what
it did; a build that was killed goes on with the tasks that have none. No file holds an order that
depends on how many processes there were. Knows no role and no network beyond the Hub's rows.
"""
