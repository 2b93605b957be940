"""The front: answers at once, supervises the engine, swaps adapters while it serves."""
