"""Searching the strength of a loss, on the validation split alone: the only room that imports Optuna.

A search has a number of *slots*, one for each trial it is to finish. A slot is finished exactly once, whichever process
is killed meanwhile; a slot that is not finished is open and is tried again. Everything that is known lies in Optuna's storage, so
that workers share nothing but it; the files in experiments/STUDY/search/ are written from there.
"""
