"""The jobs on a user's own data, one file each: they take paths and return typed results.

``clean``, ``apply_manifest`` and ``preview`` (clean.py), ``train``, ``score``, ``sample``, ``evaluate`` and
``contaminate_folders`` (contaminate.py). None of them ever sees a label that the user did not give it.
"""
