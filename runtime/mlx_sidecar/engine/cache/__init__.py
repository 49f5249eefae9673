"""The prefix cache: what was computed of a prompt once is not computed again. Runs in the engine."""
