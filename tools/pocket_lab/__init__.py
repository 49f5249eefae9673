"""The parts of `tools/train_pocket.py`: the corpus of the pocket model, its tokenizer, training and scoring.

The text is written here or found in the Python standard library. `corpus` mixes the sources `project` (`topics.toml`),
`facts`, `talk`, `tasks`, `tools` and `plain`; `vary` rephrases; `encode` turns documents into rows of
tokens; `fastmath` and `training` fit the model; `scoring` asks held-out questions. One seed gives one corpus.
"""
