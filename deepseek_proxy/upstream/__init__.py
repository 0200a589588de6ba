"""The way to DeepSeek: the only importer of requests and urllib3.

`client.Client` opens a `call.Call`; the call finds out whether the upstream answers (`failures` says why
not), and then hands out the bytes of the answer as they arrive (`body`).
"""
