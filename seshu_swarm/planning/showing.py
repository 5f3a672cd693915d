"""What people see of a plan, and its numbers by stable name. Pure but for the console."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from seshu_swarm.planning.planner import Offer, Plan
from seshu_swarm.program.reports import Result


def show(plan: Plan, source: str, console: Console) -> None:
    console.print(_answer(plan, source))
    console.print(_sizes(plan))
    console.print(
        f"A byte is a token; the best size has {plan.ratio:g} of them for each parameter "
        "(--tokens-per-parameter; 20 is Chinchilla's, for subwords). A smaller model on more text "
        "is a little worse, and cheaper wherever it is served. State: weights, gradients, moments.",
        soft_wrap=True,
    )


def _answer(plan: Plan, source: str) -> Table:
    means, chosen = plan.means, plan.chosen
    table = Table(
        "of the plan",
        "",
        title=f"${means.dollars:,.2f}, {means.gpu_hours:,.1f} hours of GPU or machine",
    )
    shape = chosen.shape
    for name, value in (
        ("rate", f"{means.flops_per_second / 1e12:,.3g} TFLOP/s each ({source})"),
        ("operations", f"{means.flops:.2e}"),
        ("best size for that", f"{count(plan.best_parameters)} parameters"),
        ("model", f"{chosen.name}: {count(chosen.num_parameters)}, {_sizes_of(shape)}"),
        ("text", f"{count(chosen.tokens)} bytes ({chosen.tokens_per_parameter:.3g} a parameter)"),
        ("time", f"{means.hours:,.1f} h, {means.num_gpus} at work"),
        ("throughput", f"{chosen.tokens / means.gpu_hours / 3600:,.0f} bytes/s each"),
        ("peak learning rate", f"{chosen.learning_rate:.1e}, cosine to a tenth"),
        ("batch", f"{chosen.batch_tokens:,} bytes, {chosen.steps:,} steps"),
        ("a million parameters", f"${chosen.dollars_per_million_parameters:.3g}"),
    ):
        table.add_row(name, value)
    return table


def _sizes(plan: Plan) -> Table:
    table = Table(
        "size",
        "parameters",
        "bytes of text",
        "a parameter",
        f"dollars at {plan.ratio:g}",
        "state",
        title="every size with the same budget",
    )
    for offer in plan.offers:
        state = f"{16 * offer.num_parameters / 1e9:.2f} GB" + ("" if offer.fits else ", too much")
        mark = "→ " if offer is plan.chosen else ""
        table.add_row(
            mark + offer.name,
            count(offer.num_parameters),
            count(offer.tokens),
            f"{offer.tokens_per_parameter:.3g}",
            f"{offer.dollars_at_ratio:,.2f}",
            state,
        )
    return table


def _sizes_of(shape: Any) -> str:
    return f"{shape.num_blocks} blocks of d_model {shape.d_model}"


def count(number: float) -> str:
    """Three digits and a letter: 1.41B."""
    for least, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= least:
            return f"{number / least:.3g}{letter}"
    return f"{number:.3g}"


def row_of(offer: Offer) -> dict[str, Any]:
    return {
        "size": offer.name,
        "d_model": offer.shape.d_model,
        "num_blocks": offer.shape.num_blocks,
        "parameters": offer.num_parameters,
        "tokens": offer.tokens,
        "tokens_per_parameter": offer.tokens_per_parameter,
        "dollars_at_ratio": offer.dollars_at_ratio,
        "fits": offer.fits,
    }


def results_of(plan: Plan) -> dict[str, Result]:
    means, chosen = plan.means, plan.chosen
    return {
        "dollars": means.dollars,
        "gpu_hours": means.gpu_hours,
        "hours": means.hours,
        "flops_per_second": means.flops_per_second,
        "flops": means.flops,
        "best_parameters": plan.best_parameters,
        "parameters": chosen.num_parameters,
        "d_model": chosen.shape.d_model,
        "num_blocks": chosen.shape.num_blocks,
        "tokens": chosen.tokens,
        "tokens_per_parameter": chosen.tokens_per_parameter,
        "learning_rate": chosen.learning_rate,
        "batch_tokens": chosen.batch_tokens,
        "steps": chosen.steps,
        "dollars_per_million_parameters": chosen.dollars_per_million_parameters,
    }
