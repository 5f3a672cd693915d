"""What lies in the run's folder.

run_folder  where everything lies, and the lock that keeps a second coordinator out
database    the SQLite file and its tables
ledger      facts of the run, its rounds, every adapter with its verdict
decisions   what each phase of a round decided
limits      how often the gate set may be read, and what it must be able to show
readings    how often each held-out set was read
lineage     the line of published revisions
pruning     room on the disk of a long run
removing    a package goes whole or not at all
hold_outs   the held-out sets: commitments, which one is in use, which are retired
"""
