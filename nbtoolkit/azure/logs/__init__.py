"""Log streams of Container Apps and Log Analytics."""
