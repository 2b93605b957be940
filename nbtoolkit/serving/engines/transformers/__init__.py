"""The transformers engine: one process that answers for a base model and its adapters on loopback.

Started by the front as ``python -m <package>.engine --settings JSON``. Only here torch, transformers
and peft are imported.
"""
