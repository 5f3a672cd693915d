"""CLIENT: users. Text across the swarm.

__main__   the command line                 config     settings of every command
routing    the chain of spans for a request (pure)
session    one conversation over a chain; finds new peers when one is lost
remote     RemoteModel: the ends here, the blocks out there
sampling   the next token from logits       generate, status   the commands
"""
