"""A small network for scikit-learn's handwritten digits, trained alike in every framework."""
