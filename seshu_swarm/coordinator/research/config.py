"""Settings of `simulate` and `record`: a sentence and a unit under every field. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from seshu_swarm.coordinator.config import (
    LANGUAGES,
    MAX_DETECTABLE,
    METHODS,
    MIN_GAIN,
    RunFolderConfig,
)
from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, setting


@dataclass(frozen=True, kw_only=True)
class SimulateConfig(RunFolderConfig):
    """`coordinator simulate`: replay recorded rounds under a policy."""

    policy: str = setting("", "Python file with a function `policy`: see docs/policies.md.")
    rounds: tuple[int, ...] = setting((), "Rounds to replay; unset: all that have ended.")
    score_calls: int | None = setting(
        None,
        "Most mixtures scored in one round; unset: four for each adapter, and eight.",
    )
    methods: tuple[str, ...] = setting(
        METHODS, "Merge methods that the coordinator's own search tries too."
    )
    min_gain: float = setting(
        MIN_GAIN, "Least gain that the coordinator's own search asks for, in bits per byte."
    )
    max_detectable: float = setting(
        MAX_DETECTABLE,
        "A language whose smallest detectable gain is above this is unscored, in bits per byte.",
    )
    max_threads: int | None = setting(None, "Most processor threads; unset: all cores.")
    report: str | None = setting(None, "File for a JSON report.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.policy:
            raise UsageError("no policy given", way_out="--policy FILE, see docs/policies.md")


@dataclass(frozen=True, kw_only=True)
class RecordConfig(OutputConfig):
    """`coordinator record`: a set of adapters with verdicts, to simulate on."""

    data: str | None = setting(
        None, "Folder with pretrain/, sft/ and parallel/; unset: the built-in phrasebook."
    )
    out: str = setting("", "Folder of the set; a recording that was begun there goes on.")
    adapters: int = setting(30, "Least number of adapters, in rounds of about ten.")
    languages: tuple[str, ...] = setting(LANGUAGES, "Languages, by ISO code.")
    licence: str = setting("CC-BY-4.0", "Licence of the adapters and checkpoints.")
    data_licence: str = setting(
        "see the source of the text", "Licences of the text, as the card shall name them."
    )
    hold_out_rows: int = setting(160, "Rows held out per language for the gate.")
    d_model: int = setting(64, "Width of the base's residual stream.")
    num_blocks: int = setting(2, "Number of the base's Mamba blocks.")
    pretrain_seconds: float = setting(90.0, "How long the base is pretrained, in seconds.")
    donors_at_once: int = setting(2, "Donors that train at the same time.")
    seed: int = setting(0, "Seed of the crowd.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.out:
            raise UsageError("no folder given", way_out="--out FOLDER")
        if self.adapters < 4 or self.donors_at_once < 1 or not self.languages:
            raise UsageError(
                f"{self.adapters} adapters in {len(self.languages)} languages, "
                f"{self.donors_at_once} donors at once",
                rule="at least four adapters, one language, one donor",
            )

    @property
    def out_path(self) -> Path:
        return Path(self.out).expanduser().absolute()

    @property
    def facts(self) -> dict[str, object]:
        """What a recording that goes on must have in common with how it was begun."""
        facts = asdict(self)
        for name in ("log_format", "verbose", "end_with_parent", "out", "data", "donors_at_once"):
            del facts[name]
        return facts | {"languages": list(self.languages)}
