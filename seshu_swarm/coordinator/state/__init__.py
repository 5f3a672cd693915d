"""What lies in the run's folder.

run_folder  where everything lies, and the lock that keeps a second coordinator out
ledger      what happened, in SQLite
hold_outs   the held-out sets and their commitments
"""
