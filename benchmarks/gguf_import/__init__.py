"""Compares imported GGUF files with llama.cpp: logits of models, tokens of vocabularies."""
