"""Observability: metrics, spans and dashboards, made from the records of requests and from the sidecar's own figures."""
