"""What the prefix cache saves, what it costs, and whether it is ever wrong."""
