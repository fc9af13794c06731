"""Where a weight comes from when an operator needs it; one file a policy."""
