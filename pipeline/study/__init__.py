"""A study: one YAML file, typed, checked, and split into runs."""
