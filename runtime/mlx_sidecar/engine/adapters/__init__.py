"""Adapters that requests name, of the resident models."""
