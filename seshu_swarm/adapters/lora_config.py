"""Our own check of `adapter_config.json`, as peft's save_pretrained writes it.

Everything that would make ΔW other than (alpha / r)·B·A, or touch another weight, is refused by
name. A key that we do not know passes only with a value that switches it off (null, false, an
empty list or table), so that newer versions of peft can be used.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from seshu_swarm.adapters.refusals import AdapterRefusal, refuse
from seshu_swarm.adapters.rules import TARGETS, AdapterRules

# These describe the training, never ΔW: any short value passes.
DESCRIPTIVE = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "inference_mode",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",  # read only where use_qalora is on
        "revision",
        "task_type",
    }
)
OWN_CHECK = frozenset({"peft_type", "r", "lora_alpha", "target_modules"})
# Beside switched off, these values leave ΔW and the base as they are.
HARMLESS: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian"),
}
NAMED = {
    "use_dora": AdapterRefusal.DORA,
    "use_rslora": AdapterRefusal.RSLORA,
    "bias": AdapterRefusal.BIAS,
    "lora_bias": AdapterRefusal.BIAS,
    "modules_to_save": AdapterRefusal.MODULES_TO_SAVE,
    "target_parameters": AdapterRefusal.TARGET_PARAMETERS,
    "rank_pattern": AdapterRefusal.RANK_PATTERN,
    "alpha_pattern": AdapterRefusal.ALPHA_PATTERN,
    "init_lora_weights": AdapterRefusal.BASE_CHANGING_INIT,
    "corda_config": AdapterRefusal.BASE_CHANGING_INIT,
    "eva_config": AdapterRefusal.BASE_CHANGING_INIT,
    "loftq_config": AdapterRefusal.BASE_CHANGING_INIT,
    "lora_ga_config": AdapterRefusal.BASE_CHANGING_INIT,
    "exclude_modules": AdapterRefusal.PARTIAL_LAYERS,
    "layers_pattern": AdapterRefusal.PARTIAL_LAYERS,
    "layers_to_transform": AdapterRefusal.PARTIAL_LAYERS,
    "layer_replication": AdapterRefusal.PARTIAL_LAYERS,
    "alora_invocation_tokens": AdapterRefusal.UNSUPPORTED_LORA,
    "arrow_config": AdapterRefusal.UNSUPPORTED_LORA,
    "ensure_weight_tying": AdapterRefusal.UNSUPPORTED_LORA,
    "fan_in_fan_out": AdapterRefusal.UNSUPPORTED_LORA,
    "kasa_config": AdapterRefusal.UNSUPPORTED_LORA,
    "megatron_config": AdapterRefusal.UNSUPPORTED_LORA,
    "monteclora_config": AdapterRefusal.UNSUPPORTED_LORA,
    "trainable_token_indices": AdapterRefusal.UNSUPPORTED_LORA,
    "use_bdlora": AdapterRefusal.UNSUPPORTED_LORA,
    "use_qalora": AdapterRefusal.UNSUPPORTED_LORA,
    "velora_config": AdapterRefusal.UNSUPPORTED_LORA,
}
MAX_SHOWN = 60


@dataclass(frozen=True)
class LoraSettings:
    """What ΔW needs from the configuration: `scale` is alpha / r; `targets` in canonical order."""

    rank: int
    scale: float
    targets: tuple[str, ...]


def parse_lora_config(data: bytes, rules: AdapterRules) -> LoraSettings:
    """Read an adapter_config.json that may come from anyone. Raises AdapterError."""
    table = _read_json(data)
    for key, value in table.items():
        _check_key(key, value)
    if table.get("peft_type") != "LORA":
        raise _bad(f"peft_type is {_shown(table.get('peft_type'))}", "it must be 'LORA'")
    rank = _rank(table.get("r"), rules)
    return LoraSettings(rank, _scale(table.get("lora_alpha"), rank, rules), _targets(table))


def _read_json(data: bytes) -> dict[str, Any]:
    try:
        table = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _bad(f"adapter_config.json is not JSON: {error}", "") from None
    if not isinstance(table, dict):
        raise _bad("adapter_config.json is not a table", "")
    return table


def _check_key(key: str, value: Any) -> None:
    if key in OWN_CHECK or key in DESCRIPTIVE or _is_off(value):
        return
    # `is` keeps 1 from passing for True.
    if any(
        value is good or (value == good and type(value) is str) for good in HARMLESS.get(key, ())
    ):
        return
    name = NAMED.get(key, AdapterRefusal.UNKNOWN_CONFIG_KEY)
    raise refuse(name, f"{key[:MAX_SHOWN]} is {_shown(value)}", rule="it must be switched off")


def _is_off(value: Any) -> bool:
    # init_lora_weights=False passes too: B then starts random, and ΔW is still s·B·A.
    return value is None or value is False or value == [] or value == {}


def _rank(rank: Any, rules: AdapterRules) -> int:
    if type(rank) is not int or rank < 1:
        raise _bad(f"r is {_shown(rank)}", "a whole number from 1")
    if rank > rules.max_rank:
        raise refuse(
            AdapterRefusal.RANK_TOO_LARGE, f"r is {_shown(rank)}", rule=f"at most {rules.max_rank}"
        )
    return rank


def _scale(alpha: Any, rank: int, rules: AdapterRules) -> float:
    is_number = type(alpha) in (int, float) and abs(alpha) < 1e9 and math.isfinite(alpha)
    if not is_number or not 0 < alpha / rank <= rules.max_scale:
        raise refuse(
            AdapterRefusal.BAD_SCALE,
            f"lora_alpha is {_shown(alpha)} with r {rank}",
            rule=f"0 < lora_alpha / r <= {rules.max_scale:g}",
        )
    return float(alpha / rank)


def _targets(table: dict[str, Any]) -> tuple[str, ...]:
    targets = table.get("target_modules")
    if not isinstance(targets, list) or not targets:
        raise _bad(f"target_modules is {_shown(targets)}", "a list of " + ", ".join(TARGETS))
    for target in targets:
        if target not in TARGETS:
            raise refuse(
                AdapterRefusal.FORBIDDEN_KEY,
                f"target_modules names {_shown(target)}",
                rule="only " + ", ".join(TARGETS) + " are merged",
            )
    return tuple(target for target in TARGETS if target in targets)


def _bad(what: str, rule: str) -> Exception:
    return refuse(AdapterRefusal.BAD_CONFIG, what, rule=rule)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
