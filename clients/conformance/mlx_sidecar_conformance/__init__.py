"""The inside of the conformance kit. Needs nothing but the standard library."""
