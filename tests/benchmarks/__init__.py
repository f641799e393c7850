"""Tests of the benchmarks: figures are worth what their checks are worth."""
