"""Result folders -> numbers."""
