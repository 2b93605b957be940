"""Smoke-test an adapter on its base before it is deployed.

report = smoke_test(SmokeSettings(adapter="adapters/tone", base="models/base"))
print(report)
report.raise_for_failure()
"""
