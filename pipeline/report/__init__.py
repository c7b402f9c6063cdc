"""`tokenmill report`: a published run as one page that opens from disk, asks for nothing and runs nothing foreign."""
