"""The audit log out through a data diode: what is said to a wire that never answers, and what is made of it beyond.

`send` follows the log and speaks; `receive` listens, keeps and judges; `fill` brings by file what the wire lost.
"""
