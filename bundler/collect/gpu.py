"""What a GPU takes of the distribution: kernel, headers, driver, kernel module, firmware and CUDA, as one tuple.

apt solves the packages together with all others; what it chose is then checked as a whole, because no dependency says
that headers belong to the kernel that runs, or that CUDA is not newer than the driver. A tuple that does not fit is
refused with every member's version. Package names are those of Debian 13's `contrib`, `non-free` and
`non-free-firmware`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from bundler.manifest.gpu import Gpu, LockedGpu
from custody._run import run
from custody.errors import InputInvalid

#: Built for one driver each; they work together only when it is the same one.
_DRIVER = (
    "nvidia-open-kernel-dkms", "firmware-nvidia-gsp", "libcuda1", "libnvidia-ml1", "nvidia-smi", "nvidia-persistenced",
)  # fmt: skip
#: What the engine's CUDA build links.
_RUNTIME = ("libcudart12", "libcublas12", "libcublaslt12")
_COMPILER = "nvidia-cuda-toolkit"
#: First kernel that a driver's module does not compile against, though no package says so.
#: Source: NVIDIA/open-gpu-kernel-modules issue 1272; seen with 6.12.117 (docs/reference/gpu.md).
_BREAKS_AT = {"550.163.01": "6.12.97"}
#: libcuda1 provides one such package for every CUDA release that its driver runs.
_SUPPORTED = re.compile(r"\blibcuda-(\d+)\.(\d+)-1\b")
_INSTALLED = "Status: install ok installed"


def gpu_packages(gpu: Gpu) -> tuple[str, ...]:
    """What is solved for the appliance beside the manifest's own packages."""
    return (*_kernel(gpu), *_DRIVER, *_RUNTIME)


def installed(status: bytes) -> dict[str, str]:
    """Versions by package of a dpkg status file."""
    found: dict[str, str] = {}
    for stanza in status.decode(errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if line[:1].isalpha() and ": " in line)
        if _INSTALLED in stanza:
            found[fields["Package"]] = fields["Version"]
    return found


def lock_gpu(gpu: Gpu, appliance: Mapping[str, str], tree: Mapping[str, str], provided: str) -> LockedGpu:
    """Check the tuple that apt chose.

    Args:
        appliance: versions by package that the host will have.
        tree: versions by package of the build tree.
        provided: what the chosen libcuda1 provides, as its index says.

    Raises:
        InputInvalid: something does not fit; names every member with its version.
    """
    image, headers = _kernel(gpu)
    driver = _upstream(appliance.get("nvidia-open-kernel-dkms", "none"))
    complaints = []
    if appliance.get(image) != appliance.get(headers):
        complaints.append(f"{headers} is not of the same build as {image}")
    if newer := [name for name in appliance if _is_newer_kernel(name, image)]:
        complaints.append(f"the host has {', '.join(newer)}, and would start that instead")
    if (broken := _BREAKS_AT.get(driver)) and _is_newer(gpu.kernel, broken):
        complaints.append(f"the module of driver {driver} does not compile against kernels from {broken} on")
    if odd := [name for name in _DRIVER if _upstream(appliance.get(name, "none")) != driver]:
        complaints.append(f"not of driver {driver}: {', '.join(odd)}")
    if not driver.startswith(f"{gpu.driver}."):
        complaints.append(f"driver {driver} is not of branch {gpu.driver}")
    cuda = {"libcudart12": appliance.get("libcudart12", "none")}
    if _COMPILER in tree:
        cuda[_COMPILER] = tree[_COMPILER]
    if odd := [name for name, version in cuda.items() if not version.startswith(f"{gpu.cuda}.")]:
        complaints.append(f"not of CUDA {gpu.cuda}: {', '.join(odd)}")
    newest = max(((int(major), int(minor)) for major, minor in _SUPPORTED.findall(provided)), default=(0, 0))
    if tuple(map(int, gpu.cuda.split("."))) > newest:
        complaints.append(f"driver {driver} runs CUDA up to {newest[0]}.{newest[1]}, not {gpu.cuda}")
    if complaints:
        members = {name: appliance.get(name, "none") for name in gpu_packages(gpu)} | cuda
        raise InputInvalid(
            "gpu: kernel, driver and CUDA do not fit together: " + "; ".join(complaints) + "\n"
            + "\n".join(f"{name}: {version}" for name, version in members.items()),
            "mend the manifest's gpu section, or lock against the host's own dpkg status (--dpkg-status)",
        )  # fmt: skip
    return LockedGpu(kernel=gpu.kernel, headers=headers, driver=driver, cuda=gpu.cuda, sm=gpu.sm)


def _kernel(gpu: Gpu) -> tuple[str, str]:
    return f"linux-image-{gpu.kernel}", f"linux-headers-{gpu.kernel}"


def _upstream(version: str) -> str:
    """A Debian version without epoch and revision (Debian Policy 5.6.12)."""
    return version.rpartition(":")[2].rpartition("-")[0] or version


def _is_newer_kernel(name: str, image: str) -> bool:
    prefix = "linux-image-"
    if not re.match(rf"{prefix}\d", name):
        return False
    return _is_newer(name.removeprefix(prefix), image.removeprefix(prefix))


def _is_newer(version: str, than: str) -> bool:
    return run(["dpkg", "--compare-versions", version, "gt", than], ok=(0, 1)).returncode == 0
