"""Two image-fusion papers re-run number by number, and the parts to do the same for others.

Score and compare: :mod:`.metrics` (every metric in named conventions), :mod:`.scoring` (folders),
:mod:`.ranking`, :mod:`.results` (one long table), :mod:`.published` (the printed numbers),
:mod:`.audit` (the papers' claims against their own tables).
Fuse: :mod:`.methods` (``get(name).fuse(a, b)``), made of :mod:`.transforms`, :mod:`.optimizers`,
:mod:`.networks` and :mod:`.detectors`; :mod:`.training` with :mod:`.losses`.
Data: :mod:`.datasets` (``open_pairs``), :mod:`.images` (the image contract), :mod:`.places` (where
files are looked for), :mod:`.download`.
Show: :mod:`.experiments` (one module for each question of the notebooks), :mod:`.figures`,
:mod:`.report`, :mod:`.runs` (records of runs).

``import fusionlib`` loads none of them. Those that need more than the core say which extra.
"""

from fusionlib import extras

__version__ = "0.2.0"

extras.name_missing()
