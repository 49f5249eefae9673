"""One pass over a flat list of tokens from any mix of sequences, for models whose layers are all attention."""
