"""The server of a release: the gateway, and the engine that it supervises.

It imports nothing else of nbtoolkit, because a deploy copies this folder alone to the share.
"""
