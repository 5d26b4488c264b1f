"""`compress`: the techniques of a trial applied to one finished model, with evidence."""
