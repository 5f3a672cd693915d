"""This peer among others: its identity, its way in, the DHT, and streams to any peer.

    identity     one RSA key: peer id and owner of records
    link         the join link (pure)
    signing      who may write a record
    daemon       the p2p daemon, and where it listens
    dht          this peer in the swarm
    line         the line of revisions, as this reader saw it
    reach        how others reach this peer: directly, or through relays
    dial_back    whether others can dial it
    relaying     bytes between peers that cannot dial one another
    circuits     messages of libp2p's relays (pure)
    round_trips  measured, for routing

Knows no packages' content, no tensors and no role.
"""
