"""Encoders (BERT, XLM-R, ModernBERT): one flat pass over the texts of a step, without padding and without a cache."""
