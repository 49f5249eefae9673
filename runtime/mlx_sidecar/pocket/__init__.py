"""The embedded model, a few megabytes that work offline, written by `tools/train_pocket.py`; see `MODEL_CARD.md`."""

from pathlib import Path

PATH: Path = Path(__file__).resolve().parent
"""The directory of the model: `config.json`, `model.safetensors`, `tokenizer.json`, `chat_template.jinja` and more."""
