"""`hf://`: packages as commits of a Hugging Face repository.

huggingface_hub is imported where it is used: it reads HF_ENDPOINT and its other switches when it
is imported, and the hosting path does without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.errors import PackageError, SeshuError
from seshu_swarm.packages import MANIFEST, Manifest
from seshu_swarm.references import Reference
from seshu_swarm.stores.base import missing, partial_of, settle


class HubStore:
    """Pushes to `repository` (OWNER/NAME); fetches any commit that a reference names."""

    def __init__(self, repository: str = "", token: str | None = None) -> None:
        self._repository, self._token = repository, token

    async def fetch(
        self, reference: Reference, into: Path, names: Iterable[str] | None = None
    ) -> Manifest:
        return await asyncio.to_thread(self._fetch, reference, into, names)

    async def push(self, folder: Path, digest: str) -> Reference:
        packages.verify(folder, digest)
        return await asyncio.to_thread(self._push, folder, digest)

    def _fetch(self, reference: Reference, into: Path, names: Iterable[str] | None) -> Manifest:
        source = self._download(reference, [MANIFEST])
        manifest = packages.read_manifest(source, reference.digest)
        into.mkdir(parents=True, exist_ok=True)
        wanted = missing(into, manifest, names)
        source = self._download(reference, wanted)
        for name in wanted:
            partial = partial_of(into / name)
            partial.write_bytes((source / name).read_bytes())
            settle(partial, into / name, manifest.files[name])
        packages.write_whole(into / MANIFEST, manifest.to_bytes())
        return manifest

    def _download(self, reference: Reference, names: list[str]) -> Path:
        from huggingface_hub import snapshot_download

        repository, commit = reference.repository
        try:
            found = snapshot_download(
                repository, revision=commit, allow_patterns=names, token=self._token
            )
        except Exception as error:
            raise _hub_error(error, f"fetch {reference}") from error
        return Path(found)

    def _push(self, folder: Path, digest: str) -> Reference:
        from huggingface_hub import HfApi

        api = HfApi(token=self._token)
        try:
            api.create_repo(self._repository, exist_ok=True)
            commit = api.upload_folder(
                repo_id=self._repository,
                folder_path=folder,
                commit_message=f"Publish {digest[:12]}",
            )
        except Exception as error:
            raise _hub_error(error, f"push to {self._repository}") from error
        return Reference("hf", f"{self._repository}@{commit.oid}", digest)


def _hub_error(error: Exception, what: str) -> SeshuError:
    # huggingface_hub raises its own tree, httpx's and OSError; to a person they are one thing.
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return PackageError(
        f"the Hub would not {what}: {first_line[:200]}",
        rule="a token with write access is needed to push, none to fetch public repositories",
        way_out="run `hf auth login`, or use --store swarm, which needs no account",
    )
