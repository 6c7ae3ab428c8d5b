"""What README.md and docs/ show, run."""
