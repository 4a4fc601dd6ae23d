"""One function per exclusion criterion."""
