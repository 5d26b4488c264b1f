"""The report on a study: everything that the store knows of it, as one page, as Markdown or as
JSON.
"""
