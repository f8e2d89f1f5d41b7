"""What the benchmarks of answers and ratings share: asking models, the Bitext data, interval coverage, rating speed."""
