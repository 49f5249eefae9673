"""The prefix cache: keys, values and states that were computed for a prompt are used again. Runs in the engine."""
