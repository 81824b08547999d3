"""Raw files -> Corpus: every document and every token accounted for."""
