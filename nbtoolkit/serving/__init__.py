"""The program that serves a release: a front, and the engine that it supervises.

It imports nothing else of nbtoolkit, because a deploy copies this folder to the share as code.
"""
