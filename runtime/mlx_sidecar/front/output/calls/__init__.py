"""Readers of tool calls, which take text as it comes and write the arguments as JSON."""
