from __future__ import annotations

import json

import pytest

from deepseek_proxy import errors as failures
from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate import openai_errors
from deepseek_proxy.translate.chat import errors

KINDS = [kind for kind in vars(failures).values() if isinstance(kind, type) and issubclass(kind, ProxyError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_frame_is_the_http_body(kind: type[ProxyError]) -> None:
    error = kind("What\nto do.", param="messages[3].content")
    frame = errors.frame(error)
    assert frame.startswith(b"data: {")
    assert frame.endswith(b"}\n\n")
    assert frame.count(b"\n") == 2
    assert json.loads(frame[6:]) == openai_errors.http_body(error)
