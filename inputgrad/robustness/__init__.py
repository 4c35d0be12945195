"""Attack any model, step by step, and say whether its score can be trusted."""
