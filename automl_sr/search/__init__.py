"""The search: proposals from Optuna, a gate before training, early stopping, and workers that share
a queue.
"""
