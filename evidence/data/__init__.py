"""Images and texts: fetched from packages, checked, split into train, validation and test."""
