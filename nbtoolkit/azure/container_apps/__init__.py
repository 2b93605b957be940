"""Container apps, environments, revisions and replicas."""
