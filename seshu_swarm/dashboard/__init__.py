"""The dashboard: one snapshot of a run as pages that anyone may read and nobody can change.

snapshot   what is shown, as plain data
texts      strangers' text, numbers and times as people read them
languages  names of languages in their own script
seen       peers from their signed records, and who went a while ago
public     the public ledger: what is shown beyond records, as a package
coverage   who holds which blocks, and what a session through them could give
charts     line and bar charts as SVG, without script or style of their own
sections   the page's parts from a snapshot, each with a fingerprint
pages      whole pages, each rendered once for a snapshot
board      the newest snapshot, fetched when somebody looks
app        the routes, and what every answer carries
address    HOST:PORT of a setting
serving    listening, and answering until stopped
templates/ the page's parts; static/ its style, its script and its icon

The coordinator fills snapshots from its ledger, the client from signed records.
"""
