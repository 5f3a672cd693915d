"""Users of a swarm in a process of their own: real ones do not share the process of those they talk to.

config     how many sessions, over how many tokens
talking    join, warm up, wait for the word, generate, say how fast
__main__   the command
"""
