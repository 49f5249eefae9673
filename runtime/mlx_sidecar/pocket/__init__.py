"""The embedded model: a few megabytes that work offline. `MODEL_CARD.md` beside this file says what it is and is not.

The files are what `tools/train_pocket.py` wrote; nothing here imports them.
"""

from pathlib import Path

PATH: Path = Path(__file__).resolve().parent
"""The directory of the model: `config.json`, `model.safetensors`, `tokenizer.json`, `chat_template.jinja` and more."""
