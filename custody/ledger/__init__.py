"""An append-only log whose past cannot be rewritten unseen: RFC 6962 tree, C2SP checkpoints and proofs."""
