"""The modules of the conformance kit, on the standard library alone."""
