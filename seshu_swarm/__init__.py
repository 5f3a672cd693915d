"""Seshu swarm: small language models by the public, for the public.

The top level is the core and knows no role:

    errors       the exception tree, exit codes        config       settings: dataclass, TOML, flags
    cli          one shape for every command line      log          what a role says, as text or JSON
    running      one loop, one stop, no child left     progress     progress of long work
    waits        what is waited for, and how long
    spans        intervals of blocks (pure)            uids         keys of the DHT (pure)
    records      what is kept in the DHT (pure)        record_bytes as bytes, read strictly (pure)
    fields       types of single fields (pure)         signing      who may write a record
    identity     one RSA key: peer id and owner        link         the join link (pure)
    dht          this peer in the swarm                daemon       its p2p daemon, and where it listens
    joining      into the swarm by a link              reach        direct, or through relays
    dial_back    whether others can dial this peer     relaying     bytes between peers that cannot dial
    circuits     messages of libp2p's relays (pure)
    line         the line of revisions, as one saw it  following    the newest record, until it forks
    frames       bytes on a stream, with limits        channel      a conversation over a stream
    protocol     messages and refusals (pure)          wire         tensors to bytes and back
    packages     folders pinned by one digest          references   where a package lies (pure)
    checkpoints  a revision on disk                    reports      the JSON report of a command
    training     the loop both roles train with        schedule     learning rate and budget (pure)
    feeding      microbatches by number                threads      how many threads, measured
    training_state  a training that can be resumed children     roles as child processes
    training_plan  the plan of pipelined training, as a peer finds it
    gradients    messages of the stream GRADIENTS (pure)
    session_messages  messages of the session streams (pure)
    payloads     hidden and recurrent states for `sessions`
    edges        between the pure session protocol and messages
    outbox       sending without waiting               round_trips  measured, for routing
    pushing      streams to other peers, one to each
    chunks       bytes of a known length on a stream
    group_states  weights and moments of a group in training, over the stream STATES

The rules of a session are `sessions/`, those of pipelined training `pipeline/`, both pure; the engine is
`mamba/`; text comes from `data/`; numbers from `evaluate/` and `bench/`; donors' LoRA is read and merged in
`adapters/`; packages travel by `stores/`. Roles: `client` (users), `peer` (donors), `coordinator`
(maintainers); `demo` plays them all on one machine.
"""

__version__ = "0.1.0"

WIRE_VERSION = 2
