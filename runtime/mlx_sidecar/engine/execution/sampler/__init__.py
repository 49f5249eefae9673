"""Sampling: from logits to tokens in one call per step for all rows, whatever the mix of parameters.

The order, for every token:

1. logits processors by ascending ``order``: penalties (repetition, then presence and frequency), then logit bias, so
   that +100 forces a token whatever the penalties say;
2. the masks of grammars;
3. top-k, then top-p over what is left, then min-p, all over the distribution before temperature, as in mlx-lm;
4. temperature, Gumbel noise, argmax. Temperature 0 is the argmax alone and skips 3.

Penalties look at the whole text, not at its last tokens: ``repetition_penalty`` divides the positive and multiplies the
negative logits of every token of prompt and answer (as in transformers); ``presence_penalty`` and ``frequency_penalty``
subtract for tokens of the answer only (as in OpenAI's API).

The noise of a token is a pure function of (seed, its position counted from the start of the prompt, the token). Nothing
here adds over rows, and how a row is computed depends on its own parameters: the same row gives the same token alone,
in any batch and after a restart, bit for bit.

Logits in an mx.array are sampled by mlx (lazy.py), those in a numpy array natively (native.py): by the same
definitions, so that the tokens are the same unless two scores are within rounding.
"""

from .logits_processors import FACTORIES, ProcessorFactory
from .logprobs import Sampled
from .masks import Mask
from .native import NativelySampled
from .sampler import Sampler

__all__ = ["FACTORIES", "Mask", "NativelySampled", "ProcessorFactory", "Sampled", "Sampler"]
