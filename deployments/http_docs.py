"""GET /openapi.json, and GET /docs: a page that shows it, whole in itself, so that it needs no network.

The page holds no data: its script reads the document from beside itself and writes it as text, never as HTML.
"""

from __future__ import annotations

import orjson

from deployments.http_message import HttpContext, Reply, Request
from deployments.openapi import describe

_HTML = b"text/html; charset=utf-8"
_PAGE = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Shoal: HTTP API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
summary { cursor: pointer; padding: .3rem 0 } summary code { font-weight: 600 }
b { display: inline-block; width: 4.5rem; font: 600 13px monospace }
pre { background: #f4f4f4; padding: .8rem; overflow: auto; font-size: 13px }
details { border-bottom: 1px solid #ddd } small { color: #666 }
</style>
<h1></h1><p id="about"></p><main>Reading <a href="openapi.json">openapi.json</a></main>
<script>
const make = (tag, text, ...inner) => {
  const node = document.createElement(tag); node.textContent = text; node.append(...inner); return node;
};
const details = (title, value) => make("details", "", title, make("pre", JSON.stringify(value, null, 2)));
fetch("openapi.json").then(answer => answer.json()).then(api => {
  document.querySelector("h1").textContent = `${api.info.title} ${api.info.version}`;
  document.querySelector("#about").textContent = api.info.description;
  const main = document.querySelector("main"); main.textContent = "";
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, route] of Object.entries(methods)) {
      const said = make("small", ` ${route.summary}`);
      const title = make("summary", "", make("b", method.toUpperCase()), make("code", path), said);
      main.append(details(title, route));
    }
  main.append(make("h2", "Bodies"));
  for (const [name, schema] of Object.entries(api.components.schemas))
    main.append(details(make("summary", "", make("code", name)), schema));
}).catch(error => { document.querySelector("main").textContent = `openapi.json can't be read: ${error}`; });
</script></html>
"""


async def openapi(context: HttpContext, request: Request) -> Reply:
    """GET /openapi.json: this document"""
    return Reply(orjson.dumps(describe(context.routes, context.shoal_version, bool(context.cluster.state.keys))))


async def docs_page(context: HttpContext, request: Request) -> Reply:
    """GET /docs: a page that shows the document"""
    return Reply(_PAGE, content_type=_HTML)
