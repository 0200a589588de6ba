"""Operations: what is written down about the gateway's work, and what must never be.

`record` is one request at its end; `logs` writes it, `metrics` counts it, `redaction` keeps secrets out.
Nothing here knows Flask or requests, and nothing runs at import.
"""
