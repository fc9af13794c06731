"""A factory in; the init distribution, role and hook points of every parameter out."""
