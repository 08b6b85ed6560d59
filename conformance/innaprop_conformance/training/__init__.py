"""A small network on scikit-learn's handwritten digits, trained alike in every framework."""
