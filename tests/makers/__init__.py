"""Makers of what tests need: tokenizers, models, chat templates, text, rows. Each kind is made in one place."""
