"""Conversations: the shapes people keep them in, chat templates, and the tokens of each role."""
