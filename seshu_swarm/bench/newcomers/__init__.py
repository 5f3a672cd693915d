"""What a newcomer waits for: help, packages, the first contribution.

helping   seconds of every `--help`        install   megabytes and minutes until an adapter is handed in
packages  what pip would fetch, in bytes   contributing  a donor on loopback, and what it fetched
"""
