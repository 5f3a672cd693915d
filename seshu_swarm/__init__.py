"""Seshu swarm: small language models by the public, for the public.

The core knows no role. From the ground up; a room knows only what stands above it here:

    errors, packages, spans   exceptions and exit codes; folders pinned by a digest; intervals of blocks
    sessions                  rules of a session (pure)
    program                   what every command is made of
    records                   what peers keep in the DHT (pure)
    streams                   speaking with one peer
    pipeline                  rules of training through peers (pure)
    mamba                     the engine
    adapters, checkpoints     LoRA and revisions on disk
    data                      text: sources, recipes, tokenisers
    network                   this peer among others
    stores                    packages from and to others
    run                       a run, as a peer meets it
    training                  training on one machine
    exchange                  sessions and pipelined training, on streams
    evaluate                  scores one can believe
    dashboard                 a snapshot as pages
    planning, presets, exporting, doctor   beside: a budget, settings, a finished checkpoint, a machine

Roles: `client` (users), `peer` (donors), `coordinator` (maintainers). `demo` plays them all on one machine,
`bench` measures.
"""

__version__ = "0.1.0"

WIRE_VERSION = 2
