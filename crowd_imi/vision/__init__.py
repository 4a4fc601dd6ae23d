"""Models, layers and preprocessing."""
