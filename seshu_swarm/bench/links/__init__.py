"""Links like home, in user space: TCP proxies in front of peers.

    config   settings of the process           shaping   when bytes leave and arrive (pure)
    proxy    sockets on both sides

A peer listens on one port and announces another, the proxy's, so that everybody who dials it comes
through. `python -m seshu_swarm.bench.links --ports A,B,… ` serves one proxy for each peer.
"""
