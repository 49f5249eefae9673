"""The gateway is an HTTP server that lets clients of other interfaces speak with the sidecar that it spawns."""
