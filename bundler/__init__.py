"""From a manifest to bits on a host: lock, build, sign, burn, install."""
