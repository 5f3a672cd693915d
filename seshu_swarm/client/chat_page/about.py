"""What the page must know before it asks: the run, the model, languages, limits, missing blocks."""

from __future__ import annotations

from typing import Any

from seshu_swarm.client.chat_page.languages import all_described
from seshu_swarm.client.gateway.answering import Gateway


def about(gateway: Gateway) -> dict[str, Any]:
    """For whoever opens the page: nothing of it is a secret of the gateway's owner."""
    models, settings = gateway.models, gateway.settings
    run = models.run
    return {
        "run": run.run_id,
        "model": models.name,
        "revision": models.current.revision,
        "num_parameters": run.num_parameters,
        "num_blocks": run.num_blocks,
        "missing_blocks": list(models.missing_blocks),
        "licence": run.licence,
        "needs_key": gateway.keys.are_asked_for,
        "limits": {
            "prompt_tokens": settings.max_prompt_tokens,
            "new_tokens": settings.max_new_tokens,
        },
        "languages": all_described(run.languages),
    }
