"""A subject, a weights policy and tokens in; a profile out."""
