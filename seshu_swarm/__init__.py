"""Seshu swarm: small language models by the public, for the public.

The top level is the core and knows no role:

    errors      the exception tree and the exit codes        config      settings: dataclass, TOML, flags
    spans       intervals of blocks, coverage (pure)         uids        keys of the DHT (pure)
    records     what is kept in the DHT (pure)               signing     who may write a record
    identity    one RSA key: peer id and record owner        link        the join link
    frames      bytes on a stream, with limits               protocol    messages and refusals (pure)
    dht, node   this peer in the swarm                       packages    folders pinned by one digest
    references  where a package lies                         stores/     file, swarm, Hub
    checkpoints a revision on disk                           training    the loop both roles train with
    guest       limits of a donor's machine                  reports     the JSON report of a command

The engine is `mamba/`; text comes from `data/`; numbers from `evaluate/`; donors' LoRA from
`adapters/`. Roles: `client` (users), `peer` (donors), `coordinator` (maintainers).
"""

__version__ = "0.1.0"

WIRE_VERSION = 1
