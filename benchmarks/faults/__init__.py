"""Faults, injected at random moments under load, and the promises they must not break: ``make faults``."""
