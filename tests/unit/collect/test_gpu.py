"""Kernel, driver and CUDA are one tuple; whatever does not fit is refused by name and version."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bundler.collect.gpu import gpu_packages, installed, lock_gpu
from bundler.manifest.gpu import Gpu
from bundler.manifest.models import Manifest
from custody.errors import InputInvalid
from tests.unit.collect.conftest import manifest

GPU = Gpu(kernel="6.12.94+deb13-amd64", driver="550", cuda="12.4", sm="90")
IMAGE, HEADERS = "linux-image-6.12.94+deb13-amd64", "linux-headers-6.12.94+deb13-amd64"
# Versions as Debian 13 has them.
HOST = {
    IMAGE: "6.12.94-1",
    HEADERS: "6.12.94-1",
    "linux-image-amd64": "6.12.94-1",
    "nvidia-open-kernel-dkms": "550.163.01-2",
    "firmware-nvidia-gsp": "550.163.01-2",
    "libcuda1": "550.163.01-2",
    "libnvidia-ml1": "550.163.01-2",
    "nvidia-smi": "550.163.01-2",
    "nvidia-persistenced": "550.163.01-1",
    "libcudart12": "12.4.127~12.4.1-2",
}
TREE = {"nvidia-cuda-toolkit": "12.4.131~12.4.1-2"}
PROVIDED = "libcuda-11.8-1, libcuda-12.0-1, libcuda-12.4-1, libcuda.so.1 (= 550.163.01), libcuda1-any"


def test_a_tuple_that_fits_is_locked() -> None:
    locked = lock_gpu(GPU, HOST, TREE, PROVIDED)
    assert (locked.kernel, locked.headers, locked.driver) == ("6.12.94+deb13-amd64", HEADERS, "550.163.01")
    assert (locked.cuda, locked.sm) == ("12.4", "90")
    assert set(HOST) - {"linux-image-amd64"} <= set(gpu_packages(GPU))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({HEADERS: "6.12.90-2"}, "is not of the same build as"),
        ({"linux-image-6.12.120+deb13-amd64": "6.12.120-1"}, "6.12.120.*would start that instead"),
        ({"firmware-nvidia-gsp": "535.274.02-1"}, "not of driver 550.163.01: firmware-nvidia-gsp"),
        ({"libcuda1": "1:570.86.15-1"}, "not of driver 550.163.01: libcuda1"),
        ({"nvidia-smi": "none"}, "not of driver 550.163.01: nvidia-smi"),
        ({"libcudart12": "12.2.140~12.2.2-1"}, "not of CUDA 12.4: libcudart12"),
    ],
)
def test_a_member_that_differs_is_refused_with_all_versions(change: dict[str, str], said: str) -> None:
    host = HOST | change
    with pytest.raises(InputInvalid, match=said) as refused:
        lock_gpu(GPU, host, TREE, PROVIDED)
    assert all(f"{name}: {host.get(name, 'none')}" in refused.value.message for name in gpu_packages(GPU))


@pytest.mark.parametrize("release", ["6.12.97-amd64", "6.12.117+deb13-amd64"])
def test_a_kernel_that_the_module_does_not_compile_against_is_refused(release: str) -> None:
    host = HOST | {f"linux-image-{release}": "1", f"linux-headers-{release}": "1"}
    with pytest.raises(InputInvalid, match=r"does not compile against kernels from 6\.12\.97 on"):
        lock_gpu(GPU.model_copy(update={"kernel": release}), host, TREE, PROVIDED)


def test_an_older_kernel_beside_it_does_no_harm() -> None:
    assert lock_gpu(GPU, HOST | {"linux-image-6.12.90+deb13-amd64": "6.12.90-1"}, TREE, PROVIDED)


def test_another_branch_compiler_or_a_newer_cuda_is_refused() -> None:
    with pytest.raises(InputInvalid, match=r"driver 550\.163\.01 is not of branch 570"):
        lock_gpu(GPU.model_copy(update={"driver": "570"}), HOST, TREE, PROVIDED)
    with pytest.raises(InputInvalid, match=r"not of CUDA 12\.4: nvidia-cuda-toolkit"):
        lock_gpu(GPU, HOST, {"nvidia-cuda-toolkit": "11.8.89~11.8.0-5"}, PROVIDED)
    with pytest.raises(InputInvalid, match=r"runs CUDA up to 12\.2, not 12\.4"):
        lock_gpu(GPU, HOST, TREE, "libcuda-12.0-1, libcuda-12.2-1")
    with pytest.raises(InputInvalid, match=r"runs CUDA up to 0\.0"):
        lock_gpu(GPU, HOST, TREE, "")


def test_only_what_is_installed_on_the_host_counts() -> None:
    status = (
        "Package: here\nStatus: install ok installed\nVersion: 1-1\nDescription: x\n Version: 9\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 2-1\n"
    )
    assert installed(status.encode()) == {"here": "1-1"}


@pytest.mark.parametrize(
    ("field", "value"), [("kernel", "6.12"), ("kernel", "6.1.0-9-amd64"), ("sm", "sm_90"), ("sm", "80")]
)
def test_a_manifest_that_contradicts_itself_is_refused(field: str, value: str) -> None:
    flags = {"CMAKE_ARGS": "-DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=90-real"}
    content = manifest(["first"], thing={"flags": flags}).model_dump()
    assert Manifest.model_validate(content | {"gpu": GPU.model_dump()}).gpu == GPU
    with pytest.raises(ValidationError):
        Manifest.model_validate(content | {"gpu": GPU.model_dump() | {field: value}})
