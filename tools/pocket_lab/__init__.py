"""The modules of `tools/train_pocket.py`: corpus, tokenizer, training and scoring of the pocket model.

The text is written here or found in the Python standard library. `corpus` mixes the sources `project` (`topics.toml`),
`facts`, `talk`, `tasks`, `tools` and `plain`; `vary` rephrases; `encode` turns documents into rows of
tokens; `fastmath` and `training` fit the model; `scoring` asks it held-out questions. One seed gives one corpus.
"""
