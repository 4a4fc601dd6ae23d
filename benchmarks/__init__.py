"""One module per claim that costs too much to be shown by the tests."""
