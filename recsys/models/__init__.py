"""Models and their versions, in words: manifests and alias moves."""
