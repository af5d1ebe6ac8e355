"""Searches over precisions: pure functions of tables, no training inside."""
