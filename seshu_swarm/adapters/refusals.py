"""Why the strict reader says no: stable names, each with the donor's next step.

The name is the first word of the error's text, so that it survives logs, ledgers and dashboards;
`refusal_of` finds it again.
"""

from __future__ import annotations

import enum

from seshu_swarm.errors import AdapterError


class AdapterRefusal(enum.Enum):
    """The value is the name on the wire and in the ledger."""

    BAD_MANIFEST = "BAD_MANIFEST"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    STALE_BASE = "STALE_BASE"
    EXTRA_FILE = "EXTRA_FILE"
    NOT_A_FILE = "NOT_A_FILE"
    FILE_TOO_LARGE = "FILE_TOO_LARGE"
    PICKLE = "PICKLE"
    BAD_HEADER = "BAD_HEADER"
    HEADER_TOO_LARGE = "HEADER_TOO_LARGE"
    TRUNCATED = "TRUNCATED"
    OVERLAPPING_TENSORS = "OVERLAPPING_TENSORS"
    BAD_CONFIG = "BAD_CONFIG"
    UNKNOWN_CONFIG_KEY = "UNKNOWN_CONFIG_KEY"
    UNSUPPORTED_LORA = "UNSUPPORTED_LORA"
    DORA = "DORA"
    RSLORA = "RSLORA"
    BIAS = "BIAS"
    MODULES_TO_SAVE = "MODULES_TO_SAVE"
    TARGET_PARAMETERS = "TARGET_PARAMETERS"
    RANK_PATTERN = "RANK_PATTERN"
    ALPHA_PATTERN = "ALPHA_PATTERN"
    BASE_CHANGING_INIT = "BASE_CHANGING_INIT"
    PARTIAL_LAYERS = "PARTIAL_LAYERS"
    FORBIDDEN_KEY = "FORBIDDEN_KEY"
    MISSING_TENSOR = "MISSING_TENSOR"
    WRONG_SHAPE = "WRONG_SHAPE"
    WRONG_DTYPE = "WRONG_DTYPE"
    RANK_TOO_LARGE = "RANK_TOO_LARGE"
    RANK_MISMATCH = "RANK_MISMATCH"
    BAD_SCALE = "BAD_SCALE"
    NOT_FINITE = "NOT_FINITE"
    TOO_STRONG = "TOO_STRONG"
    UNTRAINED = "UNTRAINED"
    ZERO_DELTA = "ZERO_DELTA"


SAVE_AGAIN = "save the adapter again with peft's save_pretrained"
DIVERGED = "training diverged: lower the learning rate and train again"

NEXT_STEPS = {
    AdapterRefusal.BAD_MANIFEST: "seal it again with the finetune command",
    AdapterRefusal.DIGEST_MISMATCH: "seal it again after its last change",
    AdapterRefusal.STALE_BASE: "train on the base that the run announces now and push again",
    AdapterRefusal.EXTRA_FILE: "push the configuration, the tensors and README.md",
    AdapterRefusal.NOT_A_FILE: "push plain files, no links and no devices",
    AdapterRefusal.FILE_TOO_LARGE: "push only the LoRA tensors, with a lower rank if need be",
    AdapterRefusal.PICKLE: "save with safe_serialization=True: only safetensors is read",
    AdapterRefusal.BAD_HEADER: SAVE_AGAIN,
    AdapterRefusal.HEADER_TOO_LARGE: SAVE_AGAIN,
    AdapterRefusal.TRUNCATED: "the file is cut short: push it again",
    AdapterRefusal.OVERLAPPING_TENSORS: SAVE_AGAIN,
    AdapterRefusal.BAD_CONFIG: SAVE_AGAIN,
    AdapterRefusal.UNKNOWN_CONFIG_KEY: "train with the defaults of LoraConfig",
    AdapterRefusal.UNSUPPORTED_LORA: "train plain LoRA: the defaults of LoraConfig",
    AdapterRefusal.DORA: "train with use_dora=False",
    AdapterRefusal.RSLORA: "train with use_rslora=False",
    AdapterRefusal.BIAS: "train with bias='none' and lora_bias=False",
    AdapterRefusal.MODULES_TO_SAVE: "train without modules_to_save: only LoRA is merged",
    AdapterRefusal.TARGET_PARAMETERS: "use target_modules instead",
    AdapterRefusal.RANK_PATTERN: "train with one rank for every module",
    AdapterRefusal.ALPHA_PATTERN: "train with one alpha for every module",
    AdapterRefusal.BASE_CHANGING_INIT: "train with init_lora_weights=True",
    AdapterRefusal.PARTIAL_LAYERS: "train every block: leave layers_to_transform unset",
    AdapterRefusal.FORBIDDEN_KEY: "target in_proj, x_proj, out_proj only",
    AdapterRefusal.MISSING_TENSOR: "save again: each target has both factors",
    AdapterRefusal.WRONG_SHAPE: "train on the base that the run announces",
    AdapterRefusal.WRONG_DTYPE: "save the adapter in float32, float16 or bfloat16",
    AdapterRefusal.RANK_TOO_LARGE: "train with a lower rank",
    AdapterRefusal.RANK_MISMATCH: "push the adapter_config.json that belongs to the tensors",
    AdapterRefusal.BAD_SCALE: "train with lora_alpha at most four times r",
    AdapterRefusal.NOT_FINITE: DIVERGED,
    AdapterRefusal.TOO_STRONG: DIVERGED,
    AdapterRefusal.UNTRAINED: "push the weights after training: every lora_B is still zero",
    AdapterRefusal.ZERO_DELTA: "push the weights after training: they change nothing",
}


def refuse(refusal: AdapterRefusal, what: str, *, rule: str = "") -> AdapterError:
    """The error to raise: `NAME: what; rule; next step`."""
    return AdapterError(f"{refusal.name}: {what}", rule=rule, way_out=NEXT_STEPS[refusal])


def refusal_of(error: AdapterError) -> AdapterRefusal | None:
    """The refusal's name, found in an error that `refuse` made."""
    name = error.what.partition(":")[0]
    return AdapterRefusal(name) if name in AdapterRefusal.__members__ else None
