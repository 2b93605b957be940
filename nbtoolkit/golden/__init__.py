"""Golden prompts: prompts with checks that the answers of an adapter must pass.

A file has one JSON object a line, ``golden.jsonl`` in the adapter's folder by default::

    {"prompt": "What is the capital of France?", "must": {"contains": "Paris"}}
    {"id": "sum", "prompt": "17 + 25?", "max_tokens": 8, "must": {"number": 42, "tolerance": 0.5}}
    {"messages": [{"role": "user", "content": "As JSON"}], "must": [{"json_schema": {"type": "array"}}]}
    {"prompt": "My dog ran away.", "system": "Be kind.", "nice": [{"not_contains": ["!", "haha"]}]}
    {"prompt": "2 + 2 =", "check": "exact", "expected": "4"}
    {"id": "g1", "prompt": "Who wrote Faust?", "expected_contains": "Goethe"}

A CSV file has these keys in its header. ``ignore_case`` is an option of the checks of text. A number is
compared with the last number of the answer. ``expected`` without ``check`` is an answer whose likelihood is
compared between adapter and base.
"""
