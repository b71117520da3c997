"""The site file: what only the site knows. Strict, because it opens the firewall; secrets by reference only."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from bundler.manifest.strict import Strict, load

HostName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
DomainName = Annotated[
    str, StringConstraints(max_length=253, pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9-]{1,63}$")
]
Mac = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")]
Serial = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or not all(c.isalnum() or c in "/._-" for c in str(path)):
        raise ValueError("expected an absolute path of letters, digits and ._-")
    return path


def _address(text: str) -> str:
    if "/" not in text:
        raise ValueError("expected an address with its prefix length, like 10.0.2.15/24")
    return str(ipaddress.ip_interface(text))


def _network(text: str) -> str:
    network = ipaddress.ip_network(text)
    if network.prefixlen == 0:
        raise ValueError("a management network cannot be the whole address space")
    return str(network)


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
InterfaceAddress = Annotated[str, AfterValidator(_address)]
Network = Annotated[str, AfterValidator(_network)]
Address = Annotated[str, AfterValidator(lambda text: str(ipaddress.ip_address(text)))]


class SecretReference(Strict):
    """Where a secret lies; never the secret itself."""

    file: Annotated[AbsolutePath, Field(description="root's, mode 0600, best on a tmpfs below /run")]


class Host(Strict):
    """The machine."""

    name: HostName


class Management(Strict):
    """A network whose machines may reach ssh and 443."""

    network: Network
    via: Annotated[Address | None, Field(description="next hop; without it the network must be on the link")] = None


class Interface(Strict):
    """The one network card in use."""

    interface_mac: Mac
    addresses: Annotated[tuple[InterfaceAddress, ...], Field(min_length=1)]
    management: Annotated[tuple[Management, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _networks_are_reachable(self) -> Interface:
        links = [ipaddress.ip_interface(address).network for address in self.addresses]
        for entry in self.management:
            network = ipaddress.ip_network(entry.network)
            if entry.via is None:
                if not any(network.version == link.version and network.subnet_of(link) for link in links):  # type: ignore[arg-type]
                    raise ValueError(f"management network {network} is on no link of the host: give its `via`")
            elif not any(ipaddress.ip_address(entry.via) in link for link in links):
                raise ValueError(f"via {entry.via} is on no link of the host")
        return self


class Time(Strict):
    """The clock's sources; none means the host's own clock alone."""

    sources: tuple[Address, ...] = ()


class Storage(Strict):
    """The encrypted data volume."""

    data_disk_serial: Serial
    passphrase: SecretReference


class Tls(Strict):
    """The server certificate, of the site's own CA."""

    server_name: DomainName
    certificate: Annotated[AbsolutePath, Field(description="PEM: server certificate, then intermediates")]
    key: SecretReference


class Service(Strict):
    """What is served, to whom."""

    model: Annotated[str, Field(description="name of a model of the bundle")]
    api_key: SecretReference


class Site(Strict):
    """A whole site file."""

    schema_version: Literal[1]
    host: Host
    network: Interface
    time: Time = Time()
    storage: Storage
    tls: Tls
    service: Service


def load_site(file: Path) -> Site:
    """Read a site file; see `strict.load` for the errors."""
    return load(file, Site)
