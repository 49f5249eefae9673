"""Providers: the engines behind one address, which are sidecars and the servers of others, each with its fallbacks."""
