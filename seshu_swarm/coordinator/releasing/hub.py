"""A release on the Hub: one commit, and the tag `round-N` upon it. Runs in a process of its own.

Before it commits, it looks whose release lies at the head. It must be the one that this run pushed
last, else another coordinator publishes the same run, and both commits are named. Pushing what is
there already changes nothing, so a push that was cut off is simply made again; files that arrived
are not sent twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.coordinator.config import PushConfig
from seshu_swarm.coordinator.releasing.names import PAPERS
from seshu_swarm.errors import ForkError
from seshu_swarm.packages import MANIFEST
from seshu_swarm.program import log
from seshu_swarm.stores.repository import HubRepository, forked

# A commit of many large files keeps the Hub busy before it answers.
ANSWER_SECONDS = 120.0
MAIN = "main"


@dataclass(frozen=True)
class Release:
    """`after`: revision and commit of the release that this run pushed before, or nothing.

    `withdrawn`: revisions of this run that one may find instead, because a push was cut off after
    its commit, and the revision withdrawn before it was noted.
    """

    folder: Path
    revision: str
    tag: str
    after: tuple[str, str] | None
    withdrawn: tuple[str, ...] = ()


def run(settings: PushConfig) -> int:
    """`releasing push`: says an event `pushed` with the commit."""
    # Documented there, but not exported in the way that mypy wants.
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()
    folder = Path(settings.folder)
    after = None
    if settings.after_revision and settings.after_commit:
        after = (settings.after_revision, settings.after_commit)
    revision = packages.verify(folder).digest
    release = Release(folder, revision, settings.tag, after, settings.withdrawn)
    hub = HubRelease(HubRepository(settings.repository, seconds=ANSWER_SECONDS))
    commit = hub.push(release)
    log.event("pushed", f"{settings.repository}@{commit} is {settings.tag}", commit=commit)
    return 0


class HubRelease:
    """Pushes releases into one repository."""

    def __init__(self, repository: HubRepository) -> None:
        self._repository = repository

    def push(self, release: Release) -> str:
        """The release's commit. Raises ForkError, PackageError, PeerLostError."""
        self._repository.create()
        if self._repository.package_at(release.tag) is None:
            self._repository.tag(release.tag, self._commit(release))
        commit = str(self._repository.commit_of(release.tag))
        if self._repository.package_at(commit) != release.revision:
            raise self._forked(release, found=commit)
        return commit

    def _commit(self, release: Release) -> str:
        head = str(self._repository.commit_of(MAIN))
        found = self._repository.package_at(head)
        if found == release.revision:
            return head
        before = release.after[0] if release.after else None
        if found not in (before, *release.withdrawn):
            raise self._forked(release, found=head)
        manifest = packages.read_manifest(release.folder)
        papers = [name for name in PAPERS if (release.folder / name).is_file()]
        names = [MANIFEST, *manifest.files, *papers]
        files = {name: release.folder / name for name in names}
        # Papers of the release before would be taken for this one's.
        stale = self._repository.names_at(head) & (set(PAPERS) - set(papers))
        message = f"{release.tag}: {release.revision}"
        return self._repository.commit(files, message, removed=sorted(stale), parent=head)

    def _forked(self, release: Release, *, found: str) -> ForkError:
        noted = release.after[1] if release.after else None
        return forked(self._repository.name, noted=noted, found=found)
