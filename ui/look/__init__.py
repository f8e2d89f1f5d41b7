"""What the page looks like: theme, style sheets, scripts, plots, and pieces of HTML that all apps share."""
