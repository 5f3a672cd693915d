"""How the run's gate set may be read: what `run` was last started with, for all other commands.

Facts of the ledger, written by `run`; before its first start the defaults of its settings.
"""

from __future__ import annotations

from seshu_swarm.coordinator.config import GATE_READINGS, MAX_DETECTABLE
from seshu_swarm.coordinator.state.ledger import Ledger

READINGS_FACT = "gate_readings"
DETECTABLE_FACT = "max_detectable"


def max_readings(ledger: Ledger) -> int:
    """Most readings of a gate set."""
    found = ledger.fact(READINGS_FACT)
    return GATE_READINGS if found is None else int(found)


def max_detectable(ledger: Ledger) -> float:
    """The smallest detectable gain, in bits per byte, above which a language is unscored."""
    found = ledger.fact(DETECTABLE_FACT)
    return MAX_DETECTABLE if found is None else float(found)
