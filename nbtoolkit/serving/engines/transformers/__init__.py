"""The transformers engine: a process that serves a base model and its adapters on loopback.

The gateway starts it as ``python -m <package>.engines.transformers --settings JSON``. Only here torch,
transformers and peft are imported.
"""
