"""The dashboard of a run, from its ledger and records: for everybody, and read only.

watching  who serves which blocks, noted in the ledger while `run` runs
history   rounds, donors, checkpoints and training, as the ledger and the reports have them
books     a snapshot from the run's folder alone, and the files that are given out
publishing  the public ledger in the swarm, for `client status --web`
service   `run --web`: the page beside the run
command   `dashboard`: the page from the folder alone, whether `run` runs or not
"""
