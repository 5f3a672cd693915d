"""CLIENT: users. Text across the swarm.

__main__   the command line                 config     settings of every command
routing    the chain of spans for a request (pure)
session    one conversation over a chain    carrier    its control streams, of `links`
mending    replacing lost parts              patience   how long to wait (pure)
hub        pieces of all sessions over one stream to and from each peer
remote     RemoteModel: the ends here, the blocks out there
sampling   the next token from logits       turns      a conversation as token ids (pure)
generate, chat, status   the commands       gateway/   `serve`: the swarm as an HTTP API
talk       a conversation in one session    terminal   lines and Ctrl-C, for `chat`

transformers_model  RemoteModelForCausalLM.from_pretrained(LINK): generate(), training at the ends
generation          its generate() with sessions
remote_cache        its sessions, one for each row          background  one loop, in a thread
gradients           forward and backward through the blocks without a session
differentiable      the same as one operation of autograd   tasks  several coroutines at once
"""
