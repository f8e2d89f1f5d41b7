"""Results for readers: HTML files, interval charts, and tables in the terminal."""
