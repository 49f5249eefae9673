"""Coding agents, as their packages are, at work on the gateway."""
