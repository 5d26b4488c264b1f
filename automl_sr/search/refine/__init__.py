"""Train the models of a finished search longer, on all training data; what comes of it stands
beside the search's.
"""
