"""The steps of a release: lock files, SBOMs, images by digest. docs/RELEASE.md says when each runs."""
