"""The gateway measured: the cost of its events, its speed beside another server, and what agents' second turns cost.

``python -m benchmarks.gateway --help`` says how to run it.
"""
