"""Common features of applications, in Bottle. FILES: a folder to serve."""

import os
from typing import Any

import bottle
from bodies import blocks

app = bottle.Bottle()
FILES = os.environ.get("FILES", "/")


@app.get("/json")
def json() -> Any:
    return {"hello": "wörld"}


@app.post("/json")
def echo() -> Any:
    return bottle.request.json


@app.post("/raw")
def raw() -> Any:
    return bottle.request.body.read()


@app.get("/stream")
def stream() -> Any:
    return blocks()


@app.post("/upload")
def upload() -> Any:
    file = bottle.request.files["file"]
    return {"name": file.raw_filename, "size": len(file.file.read())}


@app.get("/static-file")
def static_file() -> Any:
    return bottle.static_file("data", root=FILES, mimetype="application/octet-stream")


@app.get("/raises")
def raises() -> Any:
    raise RuntimeError("not today")
