"""The model level: load base and adapter in a child process; only this package of smoke imports torch.

``python -m nbtoolkit.smoke.model_level`` reads a :class:`~.messages.ModelTask` as one JSON line from
standard input and writes JSON lines to standard output. It ends when its standard input is closed.
"""
