"""The text of MODEL_CARD.md; numbers come from the run that wrote it."""

CARD = """# pocket

The embedded model of mlx-sidecar: a language model of {parameters:,} parameters, trained from scratch by `tools/train_pocket.py`.
It is here so that everything works offline in the first second: a demo that answers, and tests that decode with real weights.

## What it is
- A qwen3-type transformer (`config.json`) with tied embeddings; weights stored in float16, context length 8192.
- A byte-level BPE of 2048 tokens: any text encodes and decodes to itself; every digit is a token of its own.
- A ChatML template with tools and `<think>`. Tools are listed in the system turn; calls come as
  `<tool_call>{{"name": ..., "arguments": ...}}</tool_call>`; results go back as `<tool_response>`.
  Thinking is off unless a question ends with ` /think` (the model then opens `<think>` itself) or the template is given
  `enable_thinking` true (the prompt then opens it); with false the prompt carries an empty thought.
- It was trained on questions about mlx-sidecar, some small facts, sums, JSON answers, calls of described tools, small talk, a
  few Python functions, and fill-in-the-middle (`<|fim_prefix|>`, `<|fim_suffix|>`, `<|fim_middle|>`) for short code. The score
  says how much of each it learned.

## What it is not
- Not a general assistant. Outside of the above it says that it is too small, or makes things up. Use it to see that
  things work, never to learn something.
- Not good at what needs exact copying or carrying: sums of two digits, unfamiliar names, numbers to count to and arguments of
  tools come out wrong more often than right. Their form (JSON, tags, end of turn) holds; their content is not to be relied on.
- Not trained on long texts: nearly all of its documents have fewer than 500 tokens. Longer prompts work, but answers to them are poor.
- Not multilingual: English only, but for a few greetings.

## Data
Written by `tools/pocket_lab` (templates and rephrasings, seeded), and sources of the Python standard library (a twentieth of the text
or less). No other text, no other model, nothing downloaded.

## Training
`python tools/train_pocket.py --seed {seed} --steps {steps}`: {steps:,} steps, {tokens:,} tokens, {seconds:,} s on one of 2 shared x86 cores,
Python {python}. `python tools/train_pocket.py --check` scores the files again.

## Score
After rounding to float16, greedy, computed in float32. No question in it comes up in training word for word, and no sum of the rooms
`sums` and `thinking` in either order. A right answer has the expected words or is exactly the expected text, and it ends by itself.
The questions of `project` were looked at while the training text was written. Those of `project, fresh` came after it and led to no change
of it, though their failures were seen once before the last change (names in capitals).

{score}
"""
