"""routed: the nouns that every room shares. Imports nothing of ours."""
