"""`coordinator simulate`: every recorded round once more, under another rule.

Runs in one process, on a researcher's own copy of a run. Nothing of the run is changed: readings of
its hold-outs are not noted either, so what is tuned here has seen them and is no longer blind.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from seshu_swarm import checkpoints
from seshu_swarm.coordinator.blind.judging import budget_of
from seshu_swarm.coordinator.blind.search import SelectionRule
from seshu_swarm.coordinator.config import SCORED_TOKENS, SCORED_WINDOWS
from seshu_swarm.coordinator.research import comparing
from seshu_swarm.coordinator.research.config import SimulateConfig
from seshu_swarm.coordinator.research.policy import Policy, load_policy
from seshu_swarm.coordinator.research.recorded import RecordedRound, Recording
from seshu_swarm.coordinator.research.replaying import Replayed, Rules, replay
from seshu_swarm.coordinator.rounds.deciding import TUNING_HARM_SHARE
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.evaluate.accept import AcceptRule
from seshu_swarm.program import log, reports
from seshu_swarm.program.progress import Bar
from seshu_swarm.training.threads import set_threads

# What one scoring batch looks like, to find the number of threads that suits it.
NO_LONGER_BLIND = (
    "The hold-outs of the run were read and the readings not noted: a policy tuned on them is no "
    "longer judged blind."
)


def run(settings: SimulateConfig) -> int:
    if settings.report:
        reports.check_place(Path(settings.report))
    policy = load_policy(Path(settings.policy).expanduser())
    recording = Recording(RunFolder.of(settings.state_dir))
    _tell(settings, _replay_all(settings, policy, recording))
    return 0


def _replay_all(settings: SimulateConfig, policy: Policy, recording: Recording) -> list[Replayed]:
    numbers, languages = recording.numbers(settings.rounds), recording.languages
    replays: list[Replayed] = []
    with Bar("simulating") as bar:
        for number in numbers:
            recorded = recording.round(number)
            if not replays:
                _set_threads(settings, recorded)

            def report(spent: float, number: int = number) -> None:
                bar.update((len(replays) + spent) / len(numbers), round=number)

            report(0.0)
            rules = _rules(settings, recorded)
            found = replay(recorded, policy, languages=languages, rules=rules, report=report)
            replays.append(found)
    return replays


def _set_threads(settings: SimulateConfig, recorded: RecordedRound) -> None:
    shape = checkpoints.read_shape(recorded.base)
    set_threads(settings.max_threads, shape, batch_size=SCORED_WINDOWS, length=SCORED_TOKENS)


def _rules(settings: SimulateConfig, recorded: RecordedRound) -> Rules:
    accept = AcceptRule(max_detectable=settings.max_detectable, scored=recorded.scored)
    budget = budget_of(len(recorded.candidates)) + len(settings.methods)
    selection = SelectionRule(
        budget=settings.score_calls or budget,
        min_gain=settings.min_gain,
        no_harm=TUNING_HARM_SHARE * accept.no_harm_margin,
        methods=settings.methods,
        scored=recorded.scored,
    )
    return Rules(selection=selection, accept=accept)


def _tell(settings: SimulateConfig, replays: list[Replayed]) -> None:
    results = comparing.results(replays)
    if log.is_text():
        console = Console()
        for replayed in replays:
            comparing.show(replayed, console)
    text = (
        f"of {results['rounds']} rounds {results['published_recorded']} were published, "
        f"{results['published_policy']} under the policy; sum of the changes on the final split "
        f"{results['final_change_recorded']:+.4f} and {results['final_change_policy']:+.4f} bits "
        f"per byte\n{NO_LONGER_BLIND}"
    )
    rows = [row for replayed in replays for row in comparing.rows(replayed)]
    log.event("simulated", text, results=results, rows=rows)
    if settings.report:
        reports.write_report(
            Path(settings.report), command="simulate", settings=settings, rows=rows, results=results
        )
