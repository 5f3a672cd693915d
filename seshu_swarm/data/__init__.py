"""Text: where it comes from, how it is cut, and which part of it nobody may train on.

    text         rows, documents and corpora (NFC); their digests   jsonl       JSON lines, strictly
    scripts      which letters a language is written in
    folder       a run's folder of text                             own_rows    a donor's own rows
    own_files    their files, line by line                          hub_rows    or a data set, streamed
    own_text     a trainer's own running text
    names        names from Unicode CLDR                            phrasebook  the built-in text
    phrases      rows and texts of each kind of name
    rolling      hashes of all windows                              overlap     who shares windows
    groups       what stays in one part                             splits      the parts of a corpus
    holdout      the commitment to a held-out set, its file         catalogue   shards as a package
    decontaminate  text without what a more precious part has
    tokeniser    text to ids                                        prompts     a row as text and ids
    batches      ids as arrays to train on                          windows     ids as units to score
    building/    recipes to catalogues
    tokenisers/  bytes and trained pieces     instructions/  talks, translation     inspecting/  what is there

Imports numpy at most: babel, datasets and pyarrow only inside the functions that need them. Knows
no model, no network of peers and no role.
"""
