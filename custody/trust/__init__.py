"""Keys, envelopes, the root of trust, and verification. No input or output beyond the streams handed in."""
