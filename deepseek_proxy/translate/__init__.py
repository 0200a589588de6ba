"""The sans-IO core: values and bytes in, values and bytes out.

Nothing below this package imports flask, requests, gevent, os, time, random, logging, threading or
sockets. Ids, created-times, limits and the sealer come in by constructor. The dialects (`responses`,
`chat`, `messages`) never import each other; what they share is in the hub and its neighbours.
"""
