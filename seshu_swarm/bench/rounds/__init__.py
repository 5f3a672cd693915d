"""Bench of rounds: do worthless adapters get in, do honest ones, do all records arrive.

bench       the whole run: the table, numbers by name
world       a small base that was really trained, held-out sets, an honest donor for each language
lora        adapters as donors train them
worthless   adapters that hold nothing
holding     one round after another over one base
spreading   a round's records through a real DHT
crowd       many donors behind one node of the DHT
announcing  what a process of donors does
config      its settings
__main__    its command
"""
