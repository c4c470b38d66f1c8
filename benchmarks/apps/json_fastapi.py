"""FastAPI: a small JSON document."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def hello() -> dict[str, object]:
    return {"message": "Hello, world!", "numbers": [1, 2, 3]}
