"""Card numbers and the keys that guard them: nothing outside this room sees a clear PAN for long.

`keys` reads the keys file, `opening` opens `encryptedData`, `sealing` encrypts what is at rest,
`fingerprints` makes what is looked up instead of a number, `drawing` makes numbers. Relies on
joserfc and cryptography for every algorithm. Imports nothing of ours but the domain: SQL is in
`lifecycle.postgres.pans`, and what puts both together is the worker.
"""
