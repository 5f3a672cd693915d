"""What peers keep in the DHT: typed, versioned, small. Pure.

    kinds     one frozen type for each record
    fields    types of single fields, which messages share
    uids      keys of the DHT
    encoding  records as bytes, read strictly

Who may write a record is a matter of `network/signing`.
"""
