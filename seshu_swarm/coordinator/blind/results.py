"""What the scorer says, as JSON and back: a selection, a gate's word, a final word.

Kept in the ledger and read by simulations, so names of fields are stable.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.coordinator.blind.judging import FinalWord, GateWord
from seshu_swarm.coordinator.blind.scoring import Comparisons
from seshu_swarm.coordinator.blind.search import Trial
from seshu_swarm.coordinator.blind.selecting import Reason, Selection
from seshu_swarm.evaluate.accept import Verdict
from seshu_swarm.evaluate.paired import Comparison

Json = dict[str, Any]


def mixture_json(mixture: Mixture) -> Json:
    return dataclasses.asdict(mixture)


def mixture_of_json(table: Mapping[str, Any]) -> Mixture:
    return Mixture(
        tuple((name, share) for name, share in table["shares"]),
        table["lam"],
        table["method"],
        tuple((name, value) for name, value in table["settings"]),
    )


def selection_json(selection: Selection) -> Json:
    """Trials whose scores were not finite carry None, since JSON knows no infinity."""
    return {
        "mixture": mixture_json(selection.mixture),
        "gain_bits_per_byte": selection.gain_bits_per_byte,
        "reasons": {name: dataclasses.asdict(r) for name, r in selection.reasons.items()},
        "trials": [_trial_json(trial) for trial in selection.trials],
        "void": selection.void,
    }


def selection_of_json(table: Mapping[str, Any]) -> Selection:
    return Selection(
        mixture=mixture_of_json(table["mixture"]),
        gain_bits_per_byte=table["gain_bits_per_byte"],
        reasons={name: Reason(**reason) for name, reason in table["reasons"].items()},
        trials=tuple(_trial_of_json(trial) for trial in table["trials"]),
        void=table["void"],
    )


def _trial_json(trial: Trial) -> Json:
    is_finite = trial.excess < float("inf")
    return {
        "mixture": mixture_json(trial.mixture),
        "gain": trial.gain if is_finite else None,
        "excess": trial.excess if is_finite else None,
        "harmed": list(trial.harmed),
    }


def _trial_of_json(table: Mapping[str, Any]) -> Trial:
    mixture, harmed = mixture_of_json(table["mixture"]), tuple(table["harmed"])
    if table["excess"] is None:
        return Trial(mixture, float("-inf"), float("inf"), harmed)
    return Trial(mixture, table["gain"], table["excess"], harmed)


def gate_json(word: GateWord) -> Json:
    """A candidate that breaks the model scores numbers that are none: they travel as None."""
    return {
        "verdict": _finite(dataclasses.asdict(word.verdict)),
        "comparisons": _comparisons_json(word.comparisons),
    }


def gate_of_json(table: Mapping[str, Any]) -> GateWord:
    verdict = _numbers(table["verdict"])
    for name in ("unscored", "harmed", "reasons"):
        verdict[name] = tuple(verdict[name])
    return GateWord(Verdict(**verdict), _comparisons_of_json(table["comparisons"]))


def final_json(word: FinalWord) -> Json:
    return {
        "comparisons": _comparisons_json(word.comparisons),
        "before": _finite(word.before),
        "after": _finite(word.after),
    }


def final_of_json(table: Mapping[str, Any]) -> FinalWord:
    comparisons = _comparisons_of_json(table["comparisons"])
    return FinalWord(comparisons, _numbers(table["before"]), _numbers(table["after"]))


def _comparisons_json(comparisons: Comparisons) -> Json:
    return {
        part: {language: _finite(one) for language, one in found.items()}
        for part, found in dataclasses.asdict(comparisons).items()
    }


def _finite(table: Mapping[str, Any]) -> Json:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in table.items()
    }


def _numbers(table: Mapping[str, Any]) -> Json:
    return {name: math.nan if value is None else value for name, value in table.items()}


def _comparisons_of_json(table: Mapping[str, Any]) -> Comparisons:
    gains, harms = (
        {language: Comparison(**_numbers(found)) for language, found in table[part].items()}
        for part in ("gains", "harms")
    )
    return Comparisons(gains=gains, harms=harms)
