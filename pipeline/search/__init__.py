"""Searches the strength of a loss, on the validation split alone: the only package that imports Optuna.

A search has a number of *slots*, one for each trial that it is to finish. The command asks Optuna for values and tells
it the scores; workers only train and score, one rung of a trial at a time. Every slot is finished exactly once,
whichever process is killed meanwhile: all that is known lies in Optuna's storage, and a training resumes.
"""
