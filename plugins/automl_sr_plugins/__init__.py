"""The technique families that ship with automl-sr; each one is a plugin like those of third
parties.
"""
