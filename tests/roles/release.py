"""A container that stands where `airgap install` hands over to Ansible: a verified release, its Python, site values.

The packages come from the bundle's own apt archives, as on site. `installed` is the bare host after `start`; `settled`
has the role base behind it, so that a test of another role need not install packages again.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from bundler.install import paths
from bundler.install.ansible import command_line
from bundler.install.plan import diode_variables, role_variables
from bundler.install.site import Diode, load_site
from bundler.manifest.lock import Lock, load_lock
from tests import containers
from tests.containers import Container, Tree
from tests.vm import path
from tests.vm.hosts import load_hosts
from tests.vm.sitefiles import DATA_KEY, TLS_KEY, client_files, make_site

#: Where the bundle lies; `build/` is ignored by git.
WORK = path.ROOT / "build" / "roles"
RELEASE = paths.RELEASES / "demo-1"
#: A model needs a data volume; a container has no device mapper, so a tmpfs lies where the volume would.
VOLUME = """\
[Unit]
Description=In place of the encrypted data volume
[Mount]
What=tmpfs
Where=/srv/airgap
Type=tmpfs
Options=nodev,nosuid,noexec
"""
#: A wire to a diode: the card's name, and the addresses at its ends.
WIRE, NEAR, FAR = "wire0", "10.9.0.1", "10.9.0.2"
#: What the scenario `engine` calls the model a second time.
SECOND = "second-words"
SCENARIOS = Path(__file__).parent / "molecule"
VARIABLES = Path("/root/site/variables.json")


def prepare() -> None:
    """Lock and build the demo's bundle anew, in seconds when the cache has its parts, and make both trees of it."""
    walk = path.new_walk(WORK)
    path.make_bundle(walk, path.cache_folder())
    settled(walk)


def prepared() -> path.Walk:
    """What `prepare` made.

    Raises:
        FileNotFoundError: it was not called.
    """
    walk = path.new_walk(WORK)
    if not (walk.bundle / "sealed" / "SHA256SUMS").exists():
        raise FileNotFoundError(f"{walk.bundle}: no bundle; run: python -m tests.roles prepare")
    return walk


def lock_of(walk: path.Walk) -> Lock:
    """What the bundle was built from."""
    return load_lock(walk.work / "demo.lock.json")


def binds(walk: path.Walk) -> dict[str, Path]:
    """What a container sees of the builder: the sealed release, and the scenarios' playbooks."""
    return {str(RELEASE / "sealed"): walk.bundle / "sealed", str(SCENARIOS): SCENARIOS}


def installed(walk: path.Walk) -> Tree:
    """A bare host after `start`: the packages that it installs, and the release's environments."""
    debs = [f"{RELEASE}/sealed/data/apt/{d.archive}/{d.path}" for d in lock_of(walk).debs if "bootstrap" in d.uses]
    wheels = f"{RELEASE}/sealed/data/wheels"

    def make(container: Container) -> None:
        apt = "apt-get -qq --yes --no-install-recommends --no-remove -oAPT::Sandbox::User=root"
        none = "-oDir::Etc::sourcelist=/dev/null -oDir::Etc::sourceparts=/dev/null"
        container.run(f"DEBIAN_FRONTEND=noninteractive {apt} {none} install {' '.join(debs)}")
        container.run(
            f"python3 -I -m venv --without-pip {RELEASE}/engine && python3 -I -m venv --without-pip {RELEASE}/venv"
            f" && python3 -I -m zipfile -e {wheels}/pip-*.whl {RELEASE}/venv/lib/python3*/site-packages"
        )
        for name, requirements in (("venv", "control"), ("engine", "engine")):
            container.run(
                f"{RELEASE}/venv/bin/python -I -m pip --python {RELEASE}/{name}/bin/python --isolated --quiet"
                " --disable-pip-version-check --no-cache-dir install --no-index --no-deps --only-binary :all:"
                f" --require-hashes --find-links {wheels} -r {wheels}/{requirements}.txt"
            )
        container.run(f"ln -s {RELEASE} {paths.CURRENT}")

    return containers.layer("installed", _key(walk), containers.bare(), make, binds(walk))


def settled(walk: path.Walk) -> Tree:
    """A host with the role base behind it."""

    def make(container: Container) -> None:
        furnish(container, walk)
        argv, environment = play(SCENARIOS / "base" / "converge.yml")
        subprocess.run(container.enter(*argv, env=environment), check=True, stdin=subprocess.DEVNULL)

    return containers.layer("settled", _key(walk), installed(walk), make, binds(walk))


def furnish(container: Container, walk: path.Walk) -> None:
    """Bring what the site brings: secrets on a tmpfs, certificates, and the variables that `airgap install` makes."""
    site = walk.site = walk.site or make_site(walk, load_hosts()["appliance"])
    container.run("mkdir -p -m 0700 /run/secrets-in /root/site")
    for name in (DATA_KEY, TLS_KEY):
        container.put(walk.secrets[name].encode(), f"/run/secrets-in/{name}", 0o600)
    container.put(site.certificate, "/root/site/server.pem")
    container.put(site.ca, "/root/site/ca.pem")
    for name in ("client", "stranger"):
        ca, certificate = client_files(name)
        container.put(ca, f"/root/site/{name}-ca.pem")
        container.put(certificate, f"/root/site/{name}.pem", 0o600)
    (container.folder / "site.yml").write_bytes(site.site_yml)
    variables = role_variables(lock_of(walk), load_site(container.folder / "site.yml"), RELEASE)
    variables["gateway_client_ca_file"] = "/root/site/client-ca.pem"
    variables["gateway_monitoring_networks"] = [f"{load_hosts()['appliance'].address}/32"]
    variables["ansible_python_interpreter"] = str(RELEASE / "venv" / "bin" / "python")
    container.put(json.dumps(variables).encode(), str(VARIABLES), 0o600)


def give_volume(container: Container, walk: path.Walk) -> None:
    """Mount a tmpfs where the data volume would be, and copy the model there as stage A would."""
    (model,) = lock_of(walk).models
    folder = paths.MODELS / RELEASE.name
    container.put(VOLUME.encode(), "/etc/systemd/system/srv-airgap.mount")
    container.run(
        "systemctl daemon-reload && systemctl start srv-airgap.mount"
        f" && install -d -m 0750 -g airgap-engine {paths.MODELS} && install -d {folder}"
        f" && cp {RELEASE}/sealed/data/models/{model.filename} {folder}/"
    )


def give_second_model(container: Container) -> None:
    """Want the model served a second time, by another name and with half of the memory."""
    variables = json.loads(container.run(f"cat {VARIABLES}").stdout)
    (model,) = variables["engine_models"]
    variables["engine_models"] = [model, model | {"name": SECOND, "memory_mib": model["memory_mib"] // 2}]
    container.put(json.dumps(variables).encode(), str(VARIABLES), 0o600)


def give_card(container: Container) -> None:
    """Stand an emulated GPU in for one, and want it split in two."""
    for program in ("lsmod", "modinfo", "modprobe", "nvidia-modprobe", "nvidia-smi"):
        container.put((Path(__file__).parent / "card.py").read_bytes(), f"/usr/local/sbin/{program}", 0o755)
    container.put(b"[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
                  "/etc/systemd/system/nvidia-persistenced.service")  # fmt: skip
    container.run("systemctl daemon-reload")
    wanted = {"gpu_driver": "550.163.01", "gpu_kernel": os.uname().release, "gpu_mig": ["3g.71gb", "3g.71gb"]}
    variables = json.loads(container.run(f"cat {VARIABLES}").stdout)
    container.put(json.dumps(variables | wanted).encode(), str(VARIABLES), 0o600)


def give_wire(container: Container) -> None:
    """Stand a wire to another network namespace in for the one to a diode, and want the log sent by it."""
    container.run(
        f"ip netns add far && ip link add {WIRE} type veth peer name {WIRE} netns far"
        f" && ip -n far address add {FAR}/24 dev {WIRE} && ip -n far link set {WIRE} up && ip -n far link set lo up"
    )
    mac = json.loads(container.run(f"ip -n far -json link show {WIRE}").stdout)[0]["address"]
    diode = Diode.model_validate(
        {"interface": WIRE, "address": NEAR, "receiver": {"address": FAR, "mac": mac}}, strict=False
    )
    variables = json.loads(container.run(f"cat {VARIABLES}").stdout)
    container.put(json.dumps(variables | diode_variables(diode)).encode(), str(VARIABLES), 0o600)


def play(playbook: Path, *options: str) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment that run a playbook inside by the release's own Ansible, as `airgap install` does."""
    argv, environment = command_line(RELEASE, playbook, VARIABLES)
    return [*map(str, argv), *options], environment


def _key(walk: path.Walk) -> str:
    return (walk.bundle / "sealed" / "SHA256SUMS").read_text()
