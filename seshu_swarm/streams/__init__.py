"""Speaking with one peer: bytes, frames, messages, and an end that is said.

    frames    bytes on a stream, with limits
    channel   a conversation over a stream
    protocol  names of streams, messages, refusals (pure)
    wire      tensors to bytes and back
    chunks    bytes of a known length
    outbox    sending without waiting

Knows no addresses: `network/dht` opens the streams.
"""
