"""Encoders (BERT and its kin, EmbeddingGemma): one flat pass over the texts of a step, without padding or a cache."""
