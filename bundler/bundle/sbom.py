"""The SBOM: CycloneDX 1.6 over every file below `data/`, models included (ML-BOM).

Made when a bundle is sealed, from its lock, the digests of what is sealed, and what packages and wheels say of their
licences. One lock gives the same bytes: the time is the lock's, the serial number follows from the lock's digest, every
list is sorted. Paths of the builder stay out. A component's `bom-ref` is its path below `sealed/`.

It says what is carried, not what is inside: a library that a package vendors has no entry of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.model.license import DisjunctiveLicense, License, LicenseAcknowledgement, LicenseExpression
from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import is_expression, is_supported_id
from packageurl import PackageURL
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

import custody
from bundler.bundle.copyright import deb_licences
from bundler.bundle.leaves import Hashed
from bundler.bundle.licence import Declared, wheel_licence
from bundler.bundle.purl import deb_purl, source_purl, wheel_purl
from bundler.manifest.lock import Lock, LockedDeb, LockedFile, LockedModel, LockedSource, LockedWheel

_PAYLOAD = "data/"
_WHEELS = "data/wheels/"
#: Packages are decompressed on this many threads: 123 of them with CUDA's libraries are 25 s of one processor.
_THREADS = 4
#: Where the provenance of a wheel that was built lies, below `sealed/`.
PROVENANCE_FOLDER = "sbom/provenance/"


def make_sbom(lock: Lock, lock_sha256: str, sealed: Path, hashed: Mapping[str, Hashed]) -> bytes:
    """The SBOM of a bundle that is being sealed.

    Args:
        sealed: folder that holds the payload; packages and wheels in it are asked for their licences.
        hashed: what every file came to, by its path below `sealed`.

    Returns:
        JSON, indented by one space, keys sorted, one final newline.
    """
    named = dict(_named(lock))
    whole = Component(
        type=ComponentType.PLATFORM,
        name=lock.bundle.name,
        version=str(lock.bundle.version),
        bom_ref="bundle",
        properties=_properties(
            channel=lock.bundle.channel,
            lock_sha256=lock_sha256,
            security_epoch=lock.bundle.security_epoch,
            **{f"target:{name}": value for name, value in lock.target.model_dump(mode="json").items()},
        ),
    )
    items = {path: named.get(path) or _built(path, lock) for path in sorted(hashed) if path.startswith(_PAYLOAD)}
    licences = _licences(items, sealed)
    components = [_component(path, item, lock, licences[path], hashed) for path, item in items.items()]
    bom = Bom(
        serial_number=uuid5(NAMESPACE_URL, f"urn:airgap:lock:sha256:{lock_sha256}"),
        metadata=BomMetaData(
            timestamp=datetime.fromtimestamp(lock.source_date_epoch, UTC),
            component=whole,
            lifecycles=[PredefinedLifecycle(phase=LifecyclePhase.POST_BUILD)],
            tools=ToolRepository(
                components=[Component(type=ComponentType.APPLICATION, name="airgap", version=custody.VERSION)]
            ),
        ),
        components=components,
    )
    bom.register_dependency(whole, components)
    content = json.loads(JsonV1Dot6(bom).output_as_string())
    for component in content.get("components", ()):
        model = named.get(component["bom-ref"])
        if isinstance(model, LockedModel):
            component["modelCard"] = _model_card(model)  # the library knows none
    return (json.dumps(_sorted(content), indent=1, sort_keys=True) + "\n").encode()


_Item = LockedDeb | LockedWheel | LockedSource | LockedModel | LockedFile


def _named(lock: Lock) -> Iterator[tuple[str, _Item]]:
    """What the lock names, by its path below `sealed/`."""
    yield from ((f"data/apt/{deb.archive}/{deb.path}", deb) for deb in lock.debs)
    yield from ((f"{_WHEELS}{wheel.filename}", wheel) for wheel in lock.wheels)
    yield from ((f"data/models/{model.filename}", model) for model in lock.models)
    yield from ((f"data/files/{file.name}", file) for file in lock.files)


def _built(path: str, lock: Lock) -> LockedSource | None:
    """The source that a wheel was made of."""
    try:
        name, version, _, _ = parse_wheel_filename(path.removeprefix(_WHEELS))
    except InvalidWheelFilename:
        return None
    found = (s for s in lock.sources if (canonicalize_name(s.name), s.version) == (name, str(version)))
    return next(found, None)


def _licences(items: Mapping[str, _Item | None], sealed: Path) -> dict[str, tuple[Declared, ...]]:
    """What each of them declares, by its path."""

    def said(path: str) -> tuple[Declared, ...]:
        match items[path]:
            case LockedDeb(package=package):
                return deb_licences(sealed / path, package)
            case LockedWheel() | LockedSource():
                return wheel_licence(sealed / path)
            case LockedModel(license=words):
                return (Declared(words),)
        return ()

    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(items, pool.map(said, items), strict=True))


def _component(
    path: str, item: _Item | None, lock: Lock, licences: tuple[Declared, ...], hashed: Mapping[str, Hashed]
) -> Component:
    """One file of the payload; what the lock does not name is a plain file."""
    made = Component(
        type=ComponentType.FILE,
        name=path.removeprefix(_PAYLOAD),
        bom_ref=path,
        hashes=_hashes(hashed[path].sha256, hashed[path].sha384),
        properties=_properties(path=path, size_bytes=hashed[path].size_bytes),
        licenses=map(_licence, licences),
    )
    match item:
        case LockedDeb():
            _describe(made, item.package, item.version, deb_purl(item, lock.target))
            made.properties.update(_properties(archive=item.archive, uses=" ".join(sorted(item.uses))))
        case LockedWheel():
            _describe(made, item.name, item.version, wheel_purl(item))
            made.properties.update(_properties(environments=" ".join(item.environments)))
            made.external_references.update(_origin(item.url))
        case LockedSource():
            _describe(made, item.name, item.version, source_purl(item))
            made.properties.update(_properties(environments=" ".join(item.environments), built="here"))
            _say_how_built(made, path, item, hashed)
        case LockedModel():
            _describe(made, item.name, None, None)
            made.type = ComponentType.MACHINE_LEARNING_MODEL
            made.properties.update(_properties(label=item.label))
            made.external_references.update(_origin(item.origin))
        case LockedFile():
            made.name = item.name
            made.external_references.update(_origin(item.origin))
    return made


def _describe(made: Component, name: str, version: str | None, purl: PackageURL | None) -> None:
    made.type, made.name, made.version, made.purl = ComponentType.LIBRARY, name, version, purl


def _say_how_built(made: Component, path: str, source: LockedSource, hashed: Mapping[str, Hashed]) -> None:
    """Which source, and where the provenance lies, relative to the SBOM."""
    if source.kind == "sdist":
        ancestor = Component(
            type=ComponentType.FILE, name=source.filename, version=source.version, purl=source_purl(source),
            hashes=_hashes(source.sha256), external_references=_origin(source.url),
        )  # fmt: skip
        made.purl = PackageURL("pypi", None, source.name, source.version)  # no index has this file
        made.pedigree = Pedigree(ancestors=[ancestor], notes="built from this source in a tree of the target")
    else:
        made.properties.update(_properties(source_listing_sha256=source.sha256))
    provenance = f"{PROVENANCE_FOLDER}{PurePosixPath(path).name}.json"
    if provenance in hashed:
        made.external_references.add(
            ExternalReference(
                type=ExternalReferenceType.ATTESTATION,
                url=XsUri(str(PurePosixPath(provenance).relative_to("sbom"))),
                comment="SLSA provenance v1",
                hashes=_hashes(hashed[provenance].sha256, hashed[provenance].sha384),
            )
        )


def _model_card(model: LockedModel) -> dict[str, Any]:
    """What the GGUF header says, for readers of an ML-BOM."""
    facts = {
        "chat_template_sha256": model.chat_template_sha256,
        "context_tokens": model.context_tokens,
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "quantization": model.quantization,
        "tokenizer": model.tokenizer,
    }
    return {
        "modelParameters": {"modelArchitecture": model.architecture},
        "properties": [
            {"name": f"airgap:{name}", "value": str(value)} for name, value in facts.items() if value is not None
        ],
    }


def _licence(said: Declared) -> License:
    """An SPDX identifier or expression where it is one, else its words."""
    declared = LicenseAcknowledgement.DECLARED
    if said.spdx and is_supported_id(said.text):
        return DisjunctiveLicense(id=said.text, acknowledgement=declared)
    if said.spdx and is_expression(said.text):
        return LicenseExpression(said.text, acknowledgement=declared)
    return DisjunctiveLicense(name=said.text, acknowledgement=declared)


def _origin(address: str) -> list[ExternalReference]:
    """Where upstream has it; a path on the builder says nothing to others."""
    if "://" not in address:
        return []
    return [ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(address))]


def _hashes(sha256: str, sha384: str | None = None) -> list[HashType]:
    found = [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]
    return [*found, HashType(alg=HashAlgorithm.SHA_384, content=sha384)] if sha384 else found


def _properties(**facts: object) -> list[Property]:
    return [Property(name=f"airgap:{name}", value=str(value)) for name, value in facts.items() if value is not None]


def _sorted(content: Any) -> Any:
    """The same with every list in one order, whatever order the library gives: none here has a meaning."""
    if isinstance(content, dict):
        return {key: _sorted(value) for key, value in content.items()}
    if isinstance(content, list):
        return sorted(map(_sorted, content), key=lambda each: json.dumps(each, sort_keys=True))
    return content
