"""The networks that are trained, from a thousand weights to GPT-2 small."""
