"""One session over a chain of peers.

session    a conversation with a chain: the waiting
terms      what its parts are opened with     news       what they have said
carrier    its control streams, of `links`    hub        pieces of all sessions over one stream to each peer
suspicion  who is gone, who is slow           patience   how long to wait (pure)
mending    replacing lost parts               recovery   who was lost, and who came instead
routing    the chain of spans (pure)
revisions  when a session's revision has ended
"""
