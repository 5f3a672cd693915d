"""A repository of the Hub, from the side of whoever writes to it: head, commit, tag.

Methods block, each for as long as the Hub lets a socket wait `seconds`, and raise PackageError
where the Hub says no, PeerLostError where it is not heard or too busy, ForkError where somebody
else committed first. Knows nothing of what a package is for.

huggingface_hub is imported where it is used: it reads HF_ENDPOINT and its other switches when it
is imported, and the hosting path does without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seshu_swarm.errors import ForkError, PackageError, PeerLostError, SeshuError
from seshu_swarm.packages import MANIFEST, MAX_MANIFEST_BYTES

ANSWER_SECONDS = 30.0
PRECONDITION_FAILED = 412


class HubRepository:
    """`name` is OWNER/NAME; without `token` the one of `hf auth login` or HF_TOKEN is used."""

    def __init__(
        self, name: str, token: str | None = None, *, seconds: float = ANSWER_SECONDS
    ) -> None:
        from huggingface_hub import HfApi, get_session

        self.name, self._token, self._seconds = name, token, seconds
        # Its own default is to wait for ever.
        get_session().timeout = seconds
        self._api = HfApi(token=token)

    def create(self) -> None:
        """Make the repository, unless it is there."""
        with self._translated(f"make the repository {self.name!r}"):
            self._api.create_repo(self.name, exist_ok=True)

    def commit_of(self, revision: str) -> str | None:
        """The commit of a branch or a tag, or None where there is no such revision."""
        from huggingface_hub.errors import RevisionNotFoundError

        with self._translated(f"tell what {revision!r} of {self.name!r} is"):
            try:
                return self._api.model_info(self.name, revision=revision).sha
            except RevisionNotFoundError:
                return None

    def package_at(self, revision: str) -> str | None:
        """Digest of the package that lies at a revision, or None where none does."""
        from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

        with self._translated(f"give {MANIFEST} of {self.name}@{revision}"):
            try:
                data = self._read(MANIFEST, revision)
            except (EntryNotFoundError, RevisionNotFoundError):
                return None
        return hashlib.sha256(data).hexdigest()

    def _read(self, name: str, revision: str) -> bytes:
        from huggingface_hub import get_session, hf_hub_url

        # Documented there, but not exported in the way that mypy wants.
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            build_hf_headers,
            hf_raise_for_status,
        )

        url, data = hf_hub_url(self.name, name, revision=revision), b""
        headers = build_hf_headers(token=self._token)
        with get_session().stream("GET", url, headers=headers, timeout=self._seconds) as response:
            hf_raise_for_status(response)
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > MAX_MANIFEST_BYTES:
                    raise PackageError(
                        f"{name} of {self.name}@{revision} goes on past {MAX_MANIFEST_BYTES} bytes",
                        rule="no manifest is longer",
                    )
        return data

    def names_at(self, revision: str) -> set[str]:
        """Names of all files at a revision."""
        with self._translated(f"list {self.name}@{revision}"):
            return set(self._api.list_repo_files(self.name, revision=revision))

    def commit(
        self,
        files: Mapping[str, Path],
        message: str,
        *,
        removed: Iterable[str] = (),
        parent: str | None = None,
    ) -> str:
        """Put files into the repository, and remove others, as one commit; its 40 hex digits.

        Where nothing differs from what is there, it is the commit that is there. With `parent`, only
        if that still is the head.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        # Not upload_folder: that takes whatever lies there, and in several commits.
        changes: list[Any] = [CommitOperationAdd(name, path) for name, path in files.items()]
        changes += [CommitOperationDelete(name) for name in removed]
        with self._translated(f"take a push to {self.name!r}", based_on=parent):
            made: Any = self._api.create_commit(
                self.name, changes, commit_message=message, parent_commit=parent
            )
        return str(made.oid)

    def tag(self, name: str, commit: str) -> None:
        """Name a commit. A tag that is there already is left where it is."""
        with self._translated(f"tag {self.name}@{commit[:12]} as {name!r}"):
            self._api.create_tag(self.name, tag=name, revision=commit, exist_ok=True)

    @contextmanager
    def _translated(self, what: str, *, based_on: str | None = None) -> Iterator[None]:
        try:
            yield
        except SeshuError:
            raise
        except Exception as error:
            if based_on and _status(error) == PRECONDITION_FAILED:
                head = self.commit_of("main")
                raise forked(self.name, noted=based_on, found=str(head)) from error
            raise hub_error(error, what) from error


def forked(name: str, *, noted: str | None, found: str) -> ForkError:
    """The error that names both lines of a repository."""
    mine = f"ends at commit {noted}" if noted else "has pushed nothing there yet"
    return ForkError(
        f"{name} is at commit {found}, which this coordinator did not push: its own line {mine}",
        rule="one coordinator publishes a run: two would give donors two different bases",
        way_out="stop one of the two, keep the newer run folder, or push to another --hub",
    )


def hub_error(error: Exception, what: str) -> SeshuError:
    """PackageError where the Hub said no; PeerLostError where it was not heard, or too busy.

    huggingface_hub raises its own tree, its HTTP library's and OSError; which HTTP library it is
    depends on its version.
    """
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        status, said = error.response.status_code, error.server_message or str(error)
        if status < 500 and status != 429:
            return _refused(f"HTTP {status}, {_line(said)}", what)
    elif isinstance(error, ValueError):
        return _refused(_line(str(error)), what)
    said = f"{type(error).__name__} {_line(str(error))}".strip()
    return PeerLostError(
        f"the Hub did not {what}: {said}",
        rule="it must be reachable, and answer in time",
        way_out="try again later; or use --store swarm, which does without the Hub",
    )


def _status(error: Exception) -> int | None:
    from huggingface_hub.errors import HfHubHTTPError

    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _refused(said: str, what: str) -> PackageError:
    return PackageError(
        f"the Hub would not {what}: {said}",
        rule="a token with write access is needed to push, none to fetch public repositories",
        way_out="run `hf auth login`, or use --store swarm, which needs no account",
    )


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
