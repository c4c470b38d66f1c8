"""Common features of applications, in Django on WSGI. FILES: a folder to serve."""

import json
import os
from pathlib import Path
from typing import Any

import django
from bodies import blocks
from django.conf import settings

settings.configure(
    DEBUG=False, SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], USE_TZ=True
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import (  # noqa: E402
    FileResponse,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path  # noqa: E402

FILES = Path(os.environ.get("FILES", "/"))


def in_json(request: Any) -> Any:
    return JsonResponse(json.loads(request.body) if request.body else {"hello": "wörld"})


def raw(request: Any) -> Any:
    return HttpResponse(request.read())


def stream(request: Any) -> Any:
    return StreamingHttpResponse(blocks())


def upload(request: Any) -> Any:
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": len(file.read())})


def static_file(request: Any) -> Any:
    return FileResponse((FILES / "data").open("rb"))


def raises(request: Any) -> Any:
    raise RuntimeError("not today")


urlpatterns = [
    path("json", in_json),
    path("raw", raw),
    path("stream", stream),
    path("upload", upload),
    path("static-file", static_file),
    path("raises", raises),
]
app = get_wsgi_application()
