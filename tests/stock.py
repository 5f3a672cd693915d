"""Stock transformers on our checkpoints, in an interpreter where our package cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

DEADLINE_SECONDS = 120.0

SCRIPT = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "seshu_swarm":
            raise ImportError("not installed here")
sys.meta_path.insert(0, Absent())
import torch, transformers
torch.set_num_threads(1)
loader, place, *revisions = sys.argv[1:]
found = []
for revision in revisions:
    tokeniser = transformers.AutoTokenizer.from_pretrained(place, revision=revision)
    model = getattr(transformers, loader).from_pretrained(place, revision=revision).eval()
    ids = tokeniser("नमस्ते", add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        found.append([ids[0].tolist(), model(ids).logits[0].tolist()])
print(json.dumps(found))
"""


class Answer(NamedTuple):
    """The ids of one word, (L,), and the logits after each, (L, V)."""

    ids: list[int]
    logits: list[list[float]]


def answers(
    place: str, revisions: Sequence[str] = ("main",), *, loader: str = "AutoModelForCausalLM"
) -> list[Answer]:
    """Of each revision of a repository on the Hub, or of a folder, which has but one; `loader` is
    the class of transformers that reads the model."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, loader, place, *revisions],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [Answer(*one) for one in json.loads(done.stdout.splitlines()[-1])]
