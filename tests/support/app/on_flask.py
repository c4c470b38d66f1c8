"""Common features of applications, in Flask. FILES: a folder to serve."""

import os
from pathlib import Path
from typing import Any

from bodies import blocks
from flask import Flask, Response, request, send_file

app = Flask(__name__)
FILES = Path(os.environ.get("FILES", "/"))


@app.get("/json")
def json() -> Any:
    return {"hello": "wörld"}


@app.post("/json")
def echo() -> Any:
    return request.get_json()


@app.post("/raw")
def raw() -> Any:
    return request.get_data()


@app.get("/stream")
def stream() -> Any:
    return Response(blocks())


@app.post("/upload")
def upload() -> Any:
    file = request.files["file"]
    return {"name": file.filename, "size": len(file.read())}


@app.get("/static-file")
def static_file() -> Any:
    return send_file(FILES / "data", mimetype="application/octet-stream")


@app.get("/raises")
def raises() -> Any:
    raise RuntimeError("not today")
