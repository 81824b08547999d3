"""The words of SectorLM: recipe, task, records, errors and the seam to the disk. Imports no torch."""
