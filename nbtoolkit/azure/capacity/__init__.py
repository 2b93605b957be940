"""Quota, GPU profiles, prices and memory estimates."""
