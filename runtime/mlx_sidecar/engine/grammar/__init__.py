"""Grammars that answers are held to. llguidance computes them; its shared library is called without the interpreter."""
