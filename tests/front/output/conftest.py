"""The tokenizers of tests/support/text_models.py, as fixtures."""

from tests.support.text_models import kind, make_model, model, model_path, reference

__all__ = ["kind", "make_model", "model", "model_path", "reference"]
