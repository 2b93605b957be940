"""The model level: base and adapter in a child process of their own; here alone is torch imported.

``python -m nbtoolkit.smoke.model_level`` reads a :class:`~.wire.Task` as one JSON line from standard input
and writes JSON lines to standard output. It ends when its standard input does.
"""
