"""Names that scanners and vulnerability feeds know packages by: package URLs (purl-spec, types deb and pypi)."""

from __future__ import annotations

from packageurl import PackageURL

from bundler.manifest.lock import LockedDeb, LockedSource, LockedTarget, LockedWheel


def deb_purl(deb: LockedDeb, target: LockedTarget) -> PackageURL:
    """Of a distribution package."""
    qualifiers = {"arch": deb.architecture, "distro": target.release}
    return PackageURL("deb", target.distribution, deb.package, deb.version, qualifiers)


def wheel_purl(wheel: LockedWheel) -> PackageURL:
    """Of a wheel from an index."""
    return PackageURL("pypi", None, wheel.name, wheel.version, {"file_name": wheel.filename})


def source_purl(source: LockedSource) -> PackageURL:
    """Of a source; this project is on no index, so a name there would be another's."""
    if source.kind == "project":
        return PackageURL("generic", None, source.name, source.version)
    return PackageURL("pypi", None, source.name, source.version, {"file_name": source.filename})
