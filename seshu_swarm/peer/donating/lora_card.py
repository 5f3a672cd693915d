"""The card of an adapter package: what it was trained on, and the two ways to use it.

Everything comes from the facts of the manifest, so that the same adapter gives the same card.
Stock peft refuses LoRA on the `out_proj` of stock Mamba, so without our class the adapter is used
merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

CARD_FILE = "README.md"
_CARD = """\
---
library_name: peft
language: {language}
tags: [seshu-swarm, mamba, lora]
---
# LoRA adapter for Seshu swarm

| | |
|---|---|
| base revision | `{base_revision}` |
| language | {language} |
| rows | {num_rows} |
| LoRA | rank {rank}, scale {scale:g}, on {targets} |
| training | {num_steps} steps, {num_tokens} tokens |
| held-out answers | {before:.3f} → {after:.3f} bits per byte |

The adapter belongs to exactly this base: `sha256sum base/manifest.json` prints its revision. Below,
`base` is the folder of that checkpoint and `adapter` the folder of this card.

With seshu_swarm:

```python
import peft
from seshu_swarm.mamba.model import SeshuMambaForCausalLM

base = SeshuMambaForCausalLM.from_pretrained("base")
model = peft.PeftModel.from_pretrained(base, "adapter").eval()
```

With plain transformers: merge once, where seshu_swarm is installed,

```python
model.merge_and_unload().save_pretrained("merged")
```

and from then on, anywhere:

```python
from transformers import MambaForCausalLM

model = MambaForCausalLM.from_pretrained("merged")
```
"""
_REFUSED = """
peft alone refuses this adapter on `MambaForCausalLM`: it allows no LoRA on the `out_proj` of Mamba.
"""
_SKIPPED = """
On `MambaForCausalLM` with fused kernels, peft alone would pass LoRA on `x_proj` over in silence.
"""


def adapter_card(about: Mapping[str, Any]) -> str:
    """Markdown, from the facts of the manifest."""
    before = about["held_out_nats_per_byte_before"] / math.log(2)
    after = about["held_out_nats_per_byte_after"] / math.log(2)
    targets = about["targets"]
    card = _CARD.format_map(
        {**about, "targets": ", ".join(targets), "before": before, "after": after}
    )
    return card + (_REFUSED if "out_proj" in targets else _SKIPPED if "x_proj" in targets else "")
