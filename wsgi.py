"""The WSGI application for servers that want an object: `flask --app wsgi run`, serverless platforms."""

from deepseek_proxy.app import create_app

app = create_app()
