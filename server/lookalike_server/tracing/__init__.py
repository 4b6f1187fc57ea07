"""Traces by OpenTelemetry. Only `environment` is imported where there are none: importing the rest takes 0.3 s."""
