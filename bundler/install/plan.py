"""From site file and lock to the variables of the roles: the whole of what a run will be told.

`--dry-run` prints what this module makes, and the real run uses the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bundler.install import paths
from bundler.install.engines import engine_variables, packages
from bundler.install.site import Diode, Site
from bundler.manifest.lock import Lock


def role_variables(lock: Lock, site: Site, release: Path) -> dict[str, Any]:
    """Variables by name, as the roles' argument specifications want them; secrets as paths only."""
    return {
        "base_packages": sorted(f"{d.package}={d.version}" for d in lock.debs if "appliance" in d.uses),
        "base_apt_archives": _archives(lock, release),
        # A driver belongs into what the host boots from.
        "base_keep_boot_image": lock.gpu is None,
        "base_time_sources": list(site.time.sources),
        "network_hostname": site.host.name,
        "network_interface_mac": site.network.interface_mac,
        "network_addresses": list(site.network.addresses),
        "network_routes": [
            {"to": entry.network, "via": entry.via} for entry in site.network.management if entry.via is not None
        ],
        "firewall_management_networks": [entry.network for entry in site.network.management],
        "firewall_time_sources": list(site.time.sources),
        "storage_serial": site.storage.data_disk_serial,
        "storage_passphrase_file": str(site.storage.passphrase.file),
        "storage_mode": site.storage.mode,
        "storage_escrow_key": site.storage.escrow_key or "",
        "storage_psid_file": str(site.storage.psid.file) if site.storage.psid else "",
        "storage_owned_pin_file": str(site.storage.owned_pin.file) if site.storage.owned_pin else "",
        "storage_unattended": site.storage.unattended is not None,
        "storage_mount": str(paths.DATA),
        "storage_mapper": "airgap-data",
        **engine_variables(lock, site, release),
        "gpu_driver": lock.gpu.driver if lock.gpu else "",
        "gpu_kernel": lock.gpu.kernel if lock.gpu else "",
        "gpu_mig": list(site.gpu.mig),
        "gpu_ecc": site.gpu.ecc,
        "gateway_server_name": site.tls.server_name,
        "gateway_certificate_file": str(site.tls.certificate),
        "gateway_key_file": str(site.tls.key.file),
        "gateway_client_ca_file": str(site.tls.client_ca or ""),
        "gateway_monitoring_networks": list(site.service.monitoring),
        "gateway_first_policies": str(paths.CURRENT / packages(lock, "venv") / "appliance/gateway/policies/default"),
        "audit_auditor_key": site.service.auditor_key,
        "audit_retention_days": dict(site.service.retention_days),
        "audit_collector_key": site.service.collector_key or "",
        **(diode_variables(site.diode) if site.diode else {}),
    }


def diode_variables(diode: Diode) -> dict[str, Any]:
    """What only a host with a diode is told."""
    return {
        "base_more_service_users": ["airgap-diode"],
        "firewall_diode_interface": diode.interface,
        "firewall_diode_address": diode.address,
        "firewall_diode_receiver": diode.receiver.address,
        "firewall_diode_port": diode.receiver.port,
        "diode_interface": diode.interface,
        "diode_address": diode.address,
        "diode_receiver_address": diode.receiver.address,
        "diode_receiver_mac": diode.receiver.mac,
        "diode_receiver_port": diode.receiver.port,
        "diode_repeat": diode.repeat,
        "diode_rate": diode.records_per_second,
        "diode_mtu": diode.mtu_bytes,
    }


def describe(lock: Lock, site: Site, release: Path) -> list[str]:
    """The plan in an operator's words, one step a line."""
    debs = sum("appliance" in deb.uses for deb in lock.debs)
    networks = ", ".join(entry.network for entry in site.network.management)
    gpu = [f"GPUs         driver {lock.gpu.driver}, {', '.join(site.gpu.mig) or 'whole'}"] if lock.gpu else []
    seen_by = [f"figures      /metrics, for {', '.join(site.service.monitoring)}"] if site.service.monitoring else []
    diode = []
    if site.diode is not None:
        far = site.diode.receiver
        diode = [f"diode        the audit log to {far.address} UDP {far.port} by {site.diode.interface}; nothing back"]
    return [
        f"release      {release}",
        f"packages     {debs} of the distribution, exact versions, from the medium",
        f"data volume  disk {site.storage.data_disk_serial}, mode {site.storage.mode}; "
        "formatted if blank, opened if it is ours; "
        + ("opened at boot by the TPM" if site.storage.unattended else "waits for its passphrase at boot"),
        f"models       {len(lock.models)}, {sum(m.size_bytes for m in lock.models) / 1e6:.1f} MB, to {paths.MODELS}",
        *gpu,
        f"network      {', '.join(site.network.addresses)} on {site.network.interface_mac}; no gateway, no DNS",
        f"firewall     deny in, out, forward; {networks} may reach 22 and 443",
        *diode,
        f"service      {', '.join(site.service.models)} at https://{site.tls.server_name}/v1, "
        f"{site.service.parallel} requests at the same time{' each' if site.service.models[1:] else ''}",
        *seen_by,
    ]


def _archives(lock: Lock, release: Path) -> list[dict[str, Any]]:
    found: dict[str, tuple[set[str], set[str]]] = {}
    for index in lock.indexes:
        suites, components = found.setdefault(index.archive, (set(), set()))
        parts = index.path.split("/")  # dists/SUITE/COMPONENT/binary-ARCH/Packages.xz
        suites.add(parts[1])
        if parts[-1].startswith("Packages"):
            components.add(parts[2])
    base = release / "sealed" / "data" / "apt"
    return [
        {"name": name, "path": str(base / name), "suites": sorted(suites), "components": sorted(components)}
        for name, (suites, components) in sorted(found.items())
    ]
