"""Observability: metrics, spans and dashboards, from the records of requests and the sidecar's own figures."""
