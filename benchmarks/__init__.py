"""What is measured about simserve itself, in a checkout: speed, and accuracy on measured runs."""
