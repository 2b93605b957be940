"""Inference engines, each a child process with an OpenAI API on loopback; the gateway is their client."""
