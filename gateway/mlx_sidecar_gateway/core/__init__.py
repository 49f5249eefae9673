"""The core carries requests between HTTP and the sidecar, and knows no surface's shapes."""
