"""The demo: real photographs, a small network trained on them, and the whole chain on top."""
