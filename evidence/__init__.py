"""What the paper claims about INNAprop, run and shown, at sizes that two cores carry.

``make evidence`` runs what is missing, ``python -m evidence page`` makes the tables and figures
of the documentation from the result files.
"""
