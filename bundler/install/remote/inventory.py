"""The inventory: which hosts a laptop carries a release to, and how it reaches them. Strict, and without secrets."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bundler.install.site import load_site
from bundler.install.values import AbsolutePath, HostName
from bundler.manifest.form import Form, misfit, text
from bundler.manifest.strict import Strict, load
from custody.errors import InputInvalid

HostKey = Annotated[str, text("SHA256:[A-Za-z0-9+/]{43}", "a fingerprint as `ssh-keygen -l` prints it, SHA256:...")]
User = Annotated[str, text("[a-z_][a-z0-9_-]{0,31}", "the name of a user")]
Count = Annotated[int, Field(ge=1, le=100)]


def _endpoint(value: str) -> str:
    address = ipaddress.ip_address(value)
    if address.is_multicast or address.is_unspecified or "%" in value:
        raise ValueError("not one machine's")
    return str(address)


def _own_folder(path: Path) -> Path:
    if len(path.parts) < 3:
        raise ValueError("too high up")
    return path


class InventoryHost(Strict):
    """One host."""

    name: Annotated[HostName, Field(description="what this file and the table call it")]
    address: Annotated[
        str,
        Form("the IP address of the host", _endpoint),
        Field(description="where its ssh server answers; best one that the site file sets, or the laptop loses it"),
    ]
    port: Annotated[int, Field(ge=1, le=65535, description="of its ssh server; an appliance lets 22 pass")] = 22
    user: Annotated[User, Field(description="logs in; must be root, or have its uid")] = "root"
    key: Annotated[
        AbsolutePath,
        Field(description="the ssh key that logs in, on the laptop, mode 0600; its passphrase is asked for"),
    ]
    host_key: Annotated[
        HostKey | None, Field(description="of the host's ssh key; without it a person is asked at first contact")
    ] = None
    site: Annotated[Path, Field(description="the host's site file, relative to the inventory")]
    folder: Annotated[
        AbsolutePath,
        Form("an absolute path at least two folders deep", _own_folder),
        Field(description="on the host: what is carried lies here, in plain, until it is installed"),
    ] = Path("/var/lib/airgap/carried")

    @property
    def place(self) -> str:
        """Address and port as OpenSSH's known_hosts spells them."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"


class Inventory(Strict):
    """A whole inventory."""

    schema_version: Annotated[Literal[1], Field(description="of this page")]
    forks: Annotated[Count, Field(description="hosts that are carried to at once")] = 5
    serial: Annotated[
        Count, Field(description="hosts that install at once; the next ones wait until all of these have ended")
    ] = 5
    hosts: Annotated[tuple[InventoryHost, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_two_alike(self) -> Inventory:
        names, places = [host.name for host in self.hosts], [host.place for host in self.hosts]
        for number in range(len(self.hosts)):
            if names[number] in names[:number]:
                raise misfit("every host named once", f"{names[number]!r} again", "hosts", number, "name")
            if places[number] in places[:number]:
                raise misfit("an address of its own", f"{places[number]!r} again", "hosts", number, "address")
        return self


def load_inventory(file: Path) -> Inventory:
    """Read an inventory and every site file that it names.

    Returns:
        The inventory; its `site` paths are absolute.

    Raises:
        InputInvalid: as `strict.load`, of the inventory or a site file; or two site files name one host.
    """
    read = load(file, Inventory, "docs/reference/inventory.md names every field")
    hosts = tuple(host.model_copy(update={"site": (file.parent / host.site).absolute()}) for host in read.hosts)
    owners: dict[str, str] = {}
    for host in hosts:
        name = load_site(host.site).host.name
        if name in owners:
            raise InputInvalid(
                f"{host.site}: host.name: expected another than {owners[name]}'s, found {name!r}",
                "give every host a site file of its own",
            )
        owners[name] = host.name
    return read.model_copy(update={"hosts": hosts})
