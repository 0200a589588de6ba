"""Operations: what is written down about the gateway's work, and what must never be.

`record` is one request at its end; `logs` writes it, `metrics` counts it, `redaction` keeps secrets out.
`lifecycle` is the end of a process; `arbiter` and `gunicorn_worker` see to it and to reloads, `activation`
takes what systemd hands over.
Nothing here knows Flask or requests, and nothing runs at import.
"""
