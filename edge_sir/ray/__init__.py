"""Many dialogues on several machines, by Ray Data (the extra `ray`).

answers.py   a callable class for `map_batches`, for whoever has a Dataset of their own
cluster.py   a Ray to work on: one that runs, or one of this machine alone
mapper.py    requests become results on it: what `edge-sir batch --ray` runs
actor.py     its side on the machines
wire.py      requests, results and errors as text between them

Ray itself is imported only when it is used.
"""

from edge_sir.ray.answers import BatchAnswers

__all__ = ["BatchAnswers"]
