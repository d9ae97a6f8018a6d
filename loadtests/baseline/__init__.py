"""What millirec is measured against, in the same run."""
