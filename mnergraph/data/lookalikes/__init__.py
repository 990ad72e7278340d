"""The drawn benchmark Lookalikes."""
