"""Bring what a manifest wants to this machine: the only package that reaches a network."""
