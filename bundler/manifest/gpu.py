"""What a manifest wants of a GPU's software, and what that resolved to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from bundler.manifest.form import text
from bundler.manifest.strict import Strict

_ARCHITECTURES = re.compile(r"CMAKE_CUDA_ARCHITECTURES=(\S+)")


class Gpu(Strict):
    """NVIDIA GPUs: what must fit together, and is refused when the distribution's packages do not."""

    kernel: Annotated[
        str,
        text(r"\d+\.\d+\.\d+[a-z0-9.+-]*", "a kernel as `uname -r` says, like 6.12.94+deb13-amd64"),
        Field(description="the host's kernel; image and headers of just this one are locked"),
    ]
    driver: Annotated[
        str, text(r"\d{3}", 'a branch of the driver in quotes, like "550"'), Field(description="NVIDIA's branch")
    ]
    cuda: Annotated[
        str,
        text(r"\d{2}\.\d{1,2}", 'a release of CUDA in quotes, like "12.4"'),
        Field(description="what the engine is compiled with and runs on; at most what the driver runs"),
    ]
    sm: Annotated[
        str,
        text(r"\d{2,3}", 'a compute capability without its point, in quotes, like "90"'),
        Field(description="the one kind of GPU that the engine is compiled for: 90 is H100 and H200"),
    ]

    def other_architectures(self, flags: Iterable[str]) -> list[str]:
        """What a build's flags would compile for beside `sm`."""
        return [found for flag in flags for found in _ARCHITECTURES.findall(flag) if found != f"{self.sm}-real"]


class LockedGpu(Strict):
    """Kernel, driver and CUDA that were found to fit together."""

    kernel: Annotated[str, Field(description="as `uname -r` says")]
    headers: Annotated[str, Field(description="the package of the kernel's headers")]
    driver: Annotated[str, Field(description="upstream version, the same of libraries, kernel module and firmware")]
    cuda: Annotated[str, Field(description="release that the engine runs on")]
    sm: Annotated[str, Field(description="compute capability without its point")]
