"""The page's appearance: theme, style sheets, scripts, plots, and HTML that all apps share."""
