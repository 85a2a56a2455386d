"""Public data sets, one module for each publisher's format, and the few modules that they share.

`complete_journey`, `movielens`, `kuairand` and `taobao` say in their docstrings how the data becomes a click task.
Their formats, but for The Complete Journey's, are taken from the publishers' documentation.
"""
