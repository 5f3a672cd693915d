"""A donor's adapter: from rows to a verdict.

donor        life of a donor                     rows        own rows, or the dealt shard
tuning       one adapter, within the limits      lora        local LoRA SFT, without network
lora_model   the base with LoRA in it            lora_rows   rows to train on and to hold out
dealing      which round's shards, which seed        background   work that may be left alone
lora_card    how to use an adapter               lora_settings  how it is trained (pure)
handing_in   push, submit, announce, ask         waiting     until the coordinator's word
uploading    to the Hub, in a process of its own (`__main__`: that process)
verdicts     what a donor is told (pure)         shelf       task adapters: list, fetch
"""
