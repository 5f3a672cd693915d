"""A package goes whole: whoever looks meanwhile, or after a kill, sees all of it or nothing."""

from __future__ import annotations

import os
import shutil

from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import from_os_error

ASIDE = "removing"


def remove_package(folder: RunFolder, digest: str) -> None:
    """Move it aside, then delete it; what a killed removal left goes too. Raises SeshuError."""
    aside = folder.packages / ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    try:
        os.replace(folder.package(digest), aside)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, str(folder.package(digest))) from error
    shutil.rmtree(aside, ignore_errors=True)
