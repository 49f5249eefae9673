"""The live page: one document, and the events that keep it true."""
