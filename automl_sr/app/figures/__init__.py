"""Charts and tables as plain data, and the component that draws a chart."""
