"""The model card of a revocation, and what revoking does not do. Text only; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLAIMS = (
    "Not claimed: copies elsewhere keep the adapter, adapters trained on a withdrawn revision may carry "
    "its work on, and nothing proves that a backdoor is gone."
)


def revocation_card(revision: str, about: Mapping[str, Any], *, reason: str, how: str) -> str:
    """Markdown with the Hub's header; `about` is the manifest's."""
    header = ["---", "library_name: transformers", "tags: [mamba, byte-level, federated]", "---"]
    rounds = [
        f"- round {recipe['round']}: "
        + ", ".join(f"`{digest[:16]}…` ({share:.4f})" for digest, share in recipe["adapters"])
        for recipe in about["recipes"]
    ]
    parts = [
        "\n".join([*header, "# Seshu, after a revocation"]),
        f"Revision `{revision}`, after `{about['parent']}`, which is withdrawn.",
        "An experiment by volunteers: expect errors, and do not rely on what it says.",
        "Revoked: "
        + ", ".join(f"`{digest}`" for digest in about["revoked"])
        + f"\n\nWhy: {reason}",
        f"Made again from `{about['replayed_from']}`: {how}.",
        "\n".join(["Merges in it:", "", *(rounds or ["- none"])]),
        CLAIMS,
    ]
    return "\n\n".join(parts) + "\n"
