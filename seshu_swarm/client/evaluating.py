"""`python -m seshu_swarm evaluate`: of folders in this process, or of a swarm by its join link.

Here and not in `evaluate`, which knows no role. A model of the swarm is scored through the blocks of
its peers, row by row; what it needs of them is a forward of whole rows.
"""

from __future__ import annotations

from seshu_swarm.evaluate import command
from seshu_swarm.evaluate.config import EvaluateConfig
from seshu_swarm.evaluate.models.opening import open_model

LINK, NAME = "seshu://", "swarm"


def run(settings: EvaluateConfig) -> int:
    """Raises what `command.run` does, and JoinError and PeerError."""
    if not settings.model.startswith(LINK):
        return command.run(settings)
    command.check(settings)
    from seshu_swarm.client.pretrained.model import RemoteModelForCausalLM
    from seshu_swarm.evaluate.models.hugging import HuggingModel
    from seshu_swarm.evaluate.models.vocabulary import Vocabulary

    with RemoteModelForCausalLM.from_pretrained(
        settings.model, state_dir=settings.state_dir, host=settings.host
    ) as remote:
        others = [open_model(place) for place in settings.against]
        return command.run_models(settings, [HuggingModel(NAME, remote, Vocabulary(NAME)), *others])
