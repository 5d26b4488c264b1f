"""The tabs of the page: one module a tab, each with one `build`, and what one tab alone shows."""
