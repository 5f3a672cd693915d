"""Names of the files that lie beside a published checkpoint and are no part of its digest."""

from seshu_swarm.stores import hub

CARD = hub.CARD
VERDICTS = "verdicts.json"
TABLE = "curves.json"
PICTURE = "curves.png"
DATA = "data-manifest.json"
PAPERS = (VERDICTS, TABLE, PICTURE, CARD, DATA)
