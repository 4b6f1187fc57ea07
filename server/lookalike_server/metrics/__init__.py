"""Metrics for Prometheus: one observer that counts the stages' events, and what is read when somebody asks.

`definitions` names them, `metrics` is the observer, `state` reads the rest from the running server. Only servers that
are to have metrics import this, because prometheus-client takes a good part of a start (docs/adr/0045).
"""
