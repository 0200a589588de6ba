"""DeepSeek's tokenizer, for counting: the vocabulary of its V4 models, and the engine that applies it.

Refuses to know prompts: how a request is laid out for the model is `translate.tokens`. The vocabulary is
DeepSeek's (MIT, see LICENSE.deepseek), in the compact form that `tests/tokenizer/regenerate.py` makes.
"""
