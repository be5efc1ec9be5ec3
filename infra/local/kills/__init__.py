"""What `make chaos` and its short version in the tests are made of."""
