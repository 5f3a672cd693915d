"""Sessions and pipelined training, on streams: what the pure rules decide becomes messages here.

    session_messages  of the session streams (pure)
    payloads          hidden and recurrent states, for `sessions`
    edges             between the rules of a session and its messages
    pushing           one stream to each other peer, shared by all sessions
    gradients         of the stream GRADIENTS: a span once through (pure)
    group_states      weights and moments of a group, over the stream STATES

The rules are in `sessions/` and `pipeline/`.
"""
