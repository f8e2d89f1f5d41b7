"""What training costs before it starts: tokens, prices, memory and time. It trains only to measure speed."""
