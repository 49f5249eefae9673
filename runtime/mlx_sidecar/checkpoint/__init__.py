"""Reads the files of a model directory without mlx, for the text process and the engine."""
