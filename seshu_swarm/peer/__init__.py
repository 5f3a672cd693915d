"""PEER: a donor's machine. It does what the swarm lacks most.

__main__   the command line                   config      settings of every command
roles      what the swarm lacks most (pure)   guest       limits of the owner's machine
host       life of a hosting peer             served      blocks of one revision, loaded
serving    the stream SESSIONS                sessions    exactly-once steps (pure)
donor      life of a donor: shard in, adapter out, verdict back
lora       local LoRA SFT, without network    status      what this peer shows its owner
"""
