"""Words to ids and vectors."""
