"""Compiles the native kernels where a compiler is, without failing where none is.

Everything else is in pyproject.toml. The libraries know no Python and no torch, so one wheel serves
every version of both.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

NATIVE = Path("seshu_swarm", "mamba", "kernels", "native")
build = runpy.run_path(str(NATIVE / "build.py"))


class BuildWithKernels(build_py):
    def run(self) -> None:
        super().run()
        folder = NATIVE if self.editable_mode else Path(self.build_lib, NATIVE)
        for old in folder.glob("kernels-*.so"):
            old.unlink()
        try:
            build["compile_all"](folder)
        except build["BuildError"] as error:
            print(f"native kernels not built ({error}): compiled at first use, or plain torch")


class NativeDistribution(Distribution):
    """Its files lie at the root of the wheel: those of a pure one may hold no libraries."""

    def has_ext_modules(self) -> bool:
        return True


class PlatformWheel(bdist_wheel):
    """For this platform, for every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


setup(
    distclass=NativeDistribution,
    cmdclass={"build_py": BuildWithKernels, "bdist_wheel": PlatformWheel},
)
