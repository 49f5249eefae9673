"""Encoders (BERT, XLM-R, ModernBERT, EmbeddingGemma): one flat pass over the texts of a step, without padding and without a cache."""
