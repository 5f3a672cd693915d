"""One session over a chain of peers.

session    a conversation with a chain: the waiting
carrier    its control streams, of `links`    hub        pieces of all sessions over one stream to each peer
mending    replacing lost parts               revisions  when a session's revision has ended
routing    the chain of spans (pure)          patience   how long to wait (pure)
"""
