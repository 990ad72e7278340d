"""Operators along one relation: ``(x_src, x_dst, edges) -> x_dst``."""
