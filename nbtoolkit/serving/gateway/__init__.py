"""The gateway: serves the API and the chat UI, supervises the engine, swaps adapters without a restart."""
