"""The audit log: every request of the service, written by a process of its own, and its readers."""
