"""Baselines that millirec is measured against, in the same run."""
