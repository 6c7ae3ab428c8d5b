"""The filter language: from the JSON of a request to the rows of a segment that match.

    grammar.py     what a filter may look like (pydantic)            request JSON -> Filter
    parsing.py     limits, and errors that say the place
    conditions.py  the normal form: a small tree of conditions
    normal.py      Filter -> normal form
    semantics.py   what a condition means for one point              the rule that everything else has to agree with
    evaluation.py  the rows of a segment that match: bounds from indexes, then a scan of what they leave open
    estimate.py    how many rows match, about, without looking for them
    indexes.py     payload indexes by kind: made, kept as bytes, read again, grown

Beside them: paths (JSON paths), dates, words and geometry (what the conditions compare), slices (a hash of ids),
rowsets (bitmaps), presence, postings, numbers, places, texts (an index each), sections (their bytes).
Everything here is pure. How filters are written is the Qdrant REST API's; what they mean is told in semantics.py.
"""
