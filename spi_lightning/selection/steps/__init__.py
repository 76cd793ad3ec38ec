"""The steps of selections, one a file. One more is a file here, or in another package, and a YAML in conf/steps."""
