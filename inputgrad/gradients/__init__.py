"""Forward passes, their input gradients, and moves along them."""
