"""From a MODEL argument to a Subject; one file a kind of model."""
