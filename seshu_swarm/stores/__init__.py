"""Stores of packages: one small interface, three implementations.

    references  where a package lies (pure)
    file        folders of this machine
    swarm       any peer that announced the package; no account needed
    hub         the Hugging Face Hub, by commit
    repository  one repository of the Hub, to write to: head, commit, tag
    base        what every store does, and what they share
    limits      what a fetch may bring: anything, or only an adapter
    asking      whom a fetch asks, in which order and how patiently
    receiving   the bytes of one file from one peer
    offering    leave a package with one peer
    holder      the giving side of `swarm`: what this peer holds for others
    budget      how much strangers may leave there in a day

A store fetches named files of a package into a folder, resuming what is there and checking every
digest, or pushes a whole package and returns the reference that pins it.
"""
