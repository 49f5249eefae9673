"""Observability: what the gateway tells of its requests, made of their records; no answer waits for any of it."""
