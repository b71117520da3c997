"""An emulated self-encrypting drive: a TCG Opal 2.0 TPer behind an NVMe/TCP target. See README.md."""
