"""The gateway: who may ask what, and the way from a client to an engine."""
