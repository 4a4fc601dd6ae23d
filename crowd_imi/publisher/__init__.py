"""Posts a study on a platform."""
