"""The listen table: what one thread accepts from (part), and what it shows of itself (pulse)."""
