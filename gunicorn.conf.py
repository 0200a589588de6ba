from gevent import monkey; monkey.patch_all()  # fmt: skip  # noqa: E702, I001  # before anything imports ssl

# `gunicorn` in this folder serves the gateway; the settings are in deepseek_proxy/gunicorn_conf.py.
from deepseek_proxy.gunicorn_conf import *  # noqa: E402, F403
