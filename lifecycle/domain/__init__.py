"""The rules of `domain.md` as pure functions: no I/O, no clock, no randomness, nothing of ours."""
