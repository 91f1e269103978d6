# One-line aliases; dev.py does the work, on Windows too.
PYTHON ?= python3

.PHONY: help demo check test lint bench docs
help:  ; @$(PYTHON) dev.py
demo:  ; @$(PYTHON) dev.py demo
check: ; @$(PYTHON) dev.py check
test:  ; @$(PYTHON) dev.py test
lint:  ; @$(PYTHON) dev.py lint
bench: ; @$(PYTHON) dev.py bench $(NAME)
docs:  ; @$(PYTHON) dev.py docs
