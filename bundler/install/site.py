"""The site file: what only the site knows. Strict, because it opens the firewall; secrets by reference only."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bundler.install.values import (
    AbsolutePath,
    Address,
    CardName,
    DomainName,
    EscrowKey,
    HostName,
    InterfaceAddress,
    Mac,
    MigProfile,
    Network,
    Reason,
    SecretPath,
    Serial,
    WayOutName,
)
from bundler.manifest.form import misfit
from bundler.manifest.models import Name
from bundler.manifest.strict import Strict, load


class SecretReference(Strict):
    """Where a secret lies; never the secret itself."""

    file: Annotated[SecretPath, Field(description="root's, mode 0600, best on a tmpfs below /run")]


class Host(Strict):
    """The machine."""

    name: Annotated[HostName, Field(description="what the host calls itself")]


class Management(Strict):
    """A network whose machines may reach ssh and 443."""

    network: Annotated[Network, Field(description="may reach ssh and 443")]
    via: Annotated[Address | None, Field(description="next hop; without it the network must be on the link")] = None


class Interface(Strict):
    """The one network card in use."""

    interface_mac: Annotated[Mac, Field(description="the card, as `ip link` shows it")]
    addresses: Annotated[tuple[InterfaceAddress, ...], Field(min_length=1, description="static; no gateway is set")]
    management: Annotated[
        tuple[Management, ...], Field(min_length=1, description="who may reach the appliance, and nobody else")
    ]

    @model_validator(mode="after")
    def _networks_are_reachable(self) -> Interface:
        interfaces = [ipaddress.ip_interface(address) for address in self.addresses]
        links = ", ".join(str(interface.network) for interface in interfaces)
        for number, entry in enumerate(self.management):
            network = ipaddress.ip_network(entry.network)
            if entry.via is None:
                if not any(_contains(interface.network, network) for interface in interfaces):
                    expected = f"a network on a link of the host ({links}), or `via` a router there"
                    raise misfit(expected, entry.network, "management", number, "network")
                continue
            router = ipaddress.ip_network(entry.via)
            on_link = any(_contains(interface.network, router) for interface in interfaces)
            if not on_link or any(interface.ip == router.network_address for interface in interfaces):
                expected = f"another machine's address on a link of the host ({links})"
                raise misfit(expected, entry.via, "management", number, "via")
        return self


def _contains(
    outer: ipaddress.IPv4Network | ipaddress.IPv6Network, inner: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    if isinstance(outer, ipaddress.IPv4Network) and isinstance(inner, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(outer, ipaddress.IPv6Network) and isinstance(inner, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False


class Time(Strict):
    """The clock's sources; none means the host's own clock alone."""

    sources: Annotated[tuple[Address, ...], Field(description="addresses of NTP servers")] = ()


class Unattended(Strict):
    """The data volume opens by itself at boot, by the TPM."""

    risk_accepted: Annotated[
        Annotated[str, Reason] | None,
        Field(
            description="who accepts, and why, that whoever takes the whole host may read the data: wanted where the "
            "root file system is not encrypted, or Secure Boot is off"
        ),
    ] = None


class Storage(Strict):
    """The encrypted data volume."""

    data_disk_serial: Annotated[Serial, Field(description="as `lsblk -o PATH,SERIAL` shows it")]
    passphrase: Annotated[SecretReference, Field(description="opens the data volume")]
    mode: Annotated[
        Literal["auto", "opal+luks", "opal", "luks"],
        Field(description="who encrypts: the drive and dm-crypt, one alone, or `auto`: both where the drive can"),
    ] = "auto"
    escrow_key: Annotated[
        EscrowKey | None,
        Field(
            description="the NAME.pub of whoever keeps the second copy of the secrets; a drive that encrypts wants it"
        ),
    ] = None
    psid: Annotated[SecretReference | None, Field(description="the drive's label; kept in the escrow")] = None
    owned_pin: Annotated[
        SecretReference | None, Field(description="PIN of SID and Admin1 of a drive that the site owned before")
    ] = None

    unattended: Annotated[
        Unattended | None,
        Field(description="opened at boot by the TPM; without it the volume waits for its passphrase"),
    ] = None

    @model_validator(mode="after")
    def _a_drive_that_encrypts_has_an_escrow(self) -> Storage:
        if self.mode in ("opal", "opal+luks") and self.escrow_key is None:
            raise misfit(f"a key for the escrow with mode {self.mode}", "none", "escrow_key")
        return self


class Gpus(Strict):
    """The GPUs of a host whose bundle has their driver."""

    mig: Annotated[
        tuple[MigProfile, ...],
        Field(max_length=7, description="instances that each GPU is split into, as `nvidia-smi mig -lgip` names them"),
    ] = ()
    ecc: Annotated[bool, Field(description="refuse a GPU whose memory corrects no errors")] = True


class Tls(Strict):
    """The server certificate, of the site's own CA."""

    server_name: Annotated[DomainName, Field(description="what clients call the appliance; stands in the certificate")]
    certificate: Annotated[AbsolutePath, Field(description="PEM: server certificate, then intermediates")]
    key: Annotated[SecretReference, Field(description="PEM: the certificate's private key")]
    client_ca: Annotated[
        AbsolutePath | None,
        Field(description="PEM: who signs certificates of clients; without it none is asked for"),
    ] = None


class Service(Strict):
    """What is served, to whom."""

    models: Annotated[
        tuple[Name, ...],
        Field(min_length=1, description="names of models of the bundle, each with an engine of its own"),
    ]
    auditor_key: Annotated[
        EscrowKey,
        Field(description="the NAME.pub of who can tell, from the audit log, which texts were asked"),
    ]
    retention_days: Annotated[
        dict[Name, Annotated[int, Field(ge=1, le=36525)]],
        Field(
            default_factory=lambda: {"default": 2190},
            description="days that the audit log keeps requests: `default` at least, longer by the model's label",
        ),
    ]
    collector_key: Annotated[
        EscrowKey | None,
        Field(description="the NAME.pub of who reads exports of the audit log; without it nothing in it expires"),
    ] = None
    parallel: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description="requests that each engine answers at the same time; each takes memory for a whole context",
        ),
    ] = 4
    monitoring: Annotated[
        tuple[Network, ...],
        Field(description="whose machines may read the figures at /metrics, out of those that may reach 443"),
    ] = ()

    @model_validator(mode="after")
    def _models_are_unique(self) -> Service:
        for place, name in enumerate(self.models):
            if name in self.models[:place]:
                raise misfit("every model named once", f"{name!r} again", "models", place)
        return self

    @model_validator(mode="after")
    def _every_label_has_a_time(self) -> Service:
        if "default" not in self.retention_days:
            raise misfit("a class default, like {default: 2190}", "none", "retention_days")
        return self


class Receiver(Strict):
    """Where datagrams go that nobody answers."""

    address: Annotated[Address, Field(description="IP address beyond the diode, or of the diode's near side")]
    mac: Annotated[Mac, Field(description="its MAC address: nobody is asked for it")]
    port: Annotated[int, Field(ge=1, le=65535, description="UDP port")] = 5514


class Diode(Strict):
    """The wire to a data diode, which the audit log leaves by."""

    interface: Annotated[CardName, Field(description="a card of its own, as `ip link` shows it")]
    address: Annotated[Address, Field(description="the host's own on that wire")]
    receiver: Receiver
    repeat: Annotated[int, Field(ge=1, le=8, description="how often each record is said")] = 2
    records_per_second: Annotated[
        int, Field(ge=1, le=100_000, description="at most, and a quarter more after a pause; their copies not counted")
    ] = 1000
    mtu_bytes: Annotated[
        int, Field(ge=1280, le=9216, description="of the wire; a longer record comes by file alone")
    ] = 1500

    @model_validator(mode="after")
    def _two_ends_of_a_wire(self) -> Diode:
        own, far = ipaddress.ip_address(self.address), ipaddress.ip_address(self.receiver.address)
        if own.version != far.version or own == far:
            raise misfit(f"another address of IPv{own.version}", self.receiver.address, "receiver", "address")
        return self


class Acceptance(Strict):
    """A way out of the host that the site knows of and keeps."""

    what: Annotated[str, WayOutName, Field(description="its name, as preflight prints it")]
    reason: Annotated[str, Reason, Field(description="why, for auditors; preflight repeats it")]


class Site(Strict):
    """A whole site file."""

    schema_version: Annotated[Literal[1], Field(description="of this page")]
    host: Host
    network: Interface
    time: Time = Time()
    storage: Storage
    gpu: Annotated[Gpus, Field(description="layout of the GPUs, and what is asked of them")] = Gpus()
    tls: Tls
    service: Service
    diode: Annotated[Diode | None, Field(description="the audit log leaves through a data diode")] = None
    accept: Annotated[
        tuple[Acceptance, ...], Field(description="other ways out that preflight finds and the site accepts")
    ] = ()

    @model_validator(mode="after")
    def _the_diode_has_a_wire_of_its_own(self) -> Site:
        if self.diode is not None:
            networks = [ipaddress.ip_interface(address).network for address in self.network.addresses]
            networks += [ipaddress.ip_network(entry.network) for entry in self.network.management]
            ends = (("address", self.diode.address), ("receiver", "address", self.diode.receiver.address))
            for *place, address in ends:
                if any(_contains(network, ipaddress.ip_network(address)) for network in networks):
                    raise misfit("an address outside the host's other networks", address, "diode", *place)
        return self

    @model_validator(mode="after")
    def _monitoring_passes_the_firewall(self) -> Site:
        reach = [entry.network for entry in self.network.management]
        for place, network in enumerate(self.service.monitoring):
            inner = ipaddress.ip_network(network)
            if not any(_contains(ipaddress.ip_network(outer), inner) for outer in reach):
                expected = f"a network within those that may reach 443 ({', '.join(reach)})"
                raise misfit(expected, network, "service", "monitoring", place)
        return self

    @model_validator(mode="after")
    def _acceptances_are_unique(self) -> Site:
        names = [entry.what for entry in self.accept]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise misfit("every way out named once", f"{name!r} again", "accept", place, "what")
        return self


def load_site(file: Path) -> Site:
    """Read a site file; see `strict.load` for the errors."""
    return load(file, Site, "docs/reference/site-file.md names every field")
