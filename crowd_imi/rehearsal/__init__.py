"""The whole study with simulated participants, through the real pages."""
