"""A campaign as a bundle: one folder or zip from which another machine computes the same verdict.

    bundle_files    the files with their hashes: written whole, read and checked
    bundle_content  what a bundle contains, collected from the database
    verification    the verdicts computed again from a bundle, and compared with those in it

A hash shows that a file was changed, not who wrote it: compare the bundle's own hash with the one that the exporter has
published.
"""
