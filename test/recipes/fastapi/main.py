"""A FastAPI app in place of yours. /slow sends a line, and half a second later another."""

import asyncio

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/")
async def hello(request: Request):
    return {"from": request.client.host, "scheme": request.url.scheme}


@app.get("/slow")
async def slow():
    async def lines():
        print("slow", flush=True)
        yield "hello\n"
        await asyncio.sleep(0.5)
        yield "and goodbye\n"

    return StreamingResponse(lines(), media_type="text/plain")
