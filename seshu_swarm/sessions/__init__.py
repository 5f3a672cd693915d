"""The session protocol, pure: what client and peers agree on, without sockets, tensors or clocks.

    messages       what parts and the client say to one another
    log            what was sent along an edge, until its receiver needs it no more
    part           one peer's part of a session: exactly-once steps
    conversation   the client's side: feeding, snapshots, replacing lost parts
    recovery       from which position, with which states, a lost range goes on

A chain of parts is a chain of **edges**: client → part → part → client. Along an edge tokens travel
in pieces that say their position, and the receiver says where it is; so a piece that comes twice, late
or not at all changes nothing. The sender keeps what it sent until a **snapshot** of every block at a
later position is safe with the client. A lost part is then a snapshot and a few tokens away, however
long the conversation is.

The same classes run on sockets (`client`, `peer`) and in the simulator of the tests.
"""
