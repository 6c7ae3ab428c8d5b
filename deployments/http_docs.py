"""GET /openapi.json, and GET /docs: a page that shows it, whole in itself, so that it needs no network.

The page holds no data and is open to everybody: a browser that opens it can't send a key. Its script reads the document
from beside itself, asks the reader for a key where that is refused, keeps it no longer than the page is open, and writes
what it read as text, never as HTML. The page's security policy lets it do nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import orjson

from deployments.http_message import HttpContext, Reply, Request
from deployments.openapi import describe

_HTML = b"text/html; charset=utf-8"
_STYLE = b"""
:root { color-scheme: light dark; --line: rgb(128 128 128 / .3); --quiet: rgb(128 128 128 / .12) }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem }
h2 { margin: 2rem 0 .5rem; font-size: 1.2rem } h2::first-letter { text-transform: uppercase }
details { border-bottom: 1px solid var(--line) }
details > :not(summary) { margin-left: 1.2rem } details h3 { font-size: .9rem; margin-bottom: .3rem }
summary { cursor: pointer; padding: .45rem 0 } summary code { font-weight: 600; overflow-wrap: anywhere }
summary span { opacity: .75; margin-left: .5rem }
b { display: inline-block; min-width: 4.2rem; font: 600 13px monospace }
b.get { color: light-dark(#20693f, #6fcf97) } b.post { color: light-dark(#2a63ad, #8ab8f2) }
b.put, b.patch { color: light-dark(#8a5300, #e5b567) } b.delete { color: light-dark(#b02a2a, #f08a8a) }
pre { background: var(--quiet); padding: .8rem; overflow: auto; font-size: 13px; max-height: 30rem }
input, button { font: inherit; padding: .2rem .5rem } ul { padding-left: 1.2rem }
@media (max-width: 40rem) {
  b { min-width: 0; margin-right: .4rem } summary code { font-size: 13px }
  summary span { display: block; margin-left: 1.1rem }
}
"""
_SCRIPT = b"""
const make = (tag, text, ...inner) => {
  const node = document.createElement(tag); node.textContent = text; node.append(...inner); return node;
};
const link = (text, to) => { const node = make("a", text); node.href = `#${to}`; return node; };
const json = (value, pad = "") => {
  const short = JSON.stringify(value), inner = `${pad}  `;
  if (typeof value !== "object" || value === null || short.length + pad.length < 90) return short;
  const isList = Array.isArray(value), name = key => isList ? "" : `${JSON.stringify(key)}: `;
  const parts = Object.entries(value).map(([key, one]) => `${inner}${name(key)}${json(one, inner)}`);
  return `${isList ? "[" : "{"}\\n${parts.join(",\\n")}\\n${pad}${isList ? "]" : "}"}`;
};
const fold = (title, id, ...inner) => { const node = make("details", "", title, ...inner); node.id = id; return node; };
const quoted = text => `'${text.replaceAll("'", "'\\\\''")}'`;
const values = {collection: "articles", id: "1", field: "author", name: "NAME"};
const base = new URL(".", location).href.slice(0, -1);
const schemaOf = body => (body.schema.$ref ?? "").split("/").pop();

function command(method, path, route, body) {
  const filled = path.replace(/{(\\w+)}/g, (all, name) => values[name] ?? all);
  const waits = (route.parameters ?? []).some(one => one.name === "wait");
  let line = `curl -X ${method.toUpperCase()} ${quoted(base + filled + (waits ? "?wait=true" : ""))}`;
  if (route.security.length) line += ` \\\\\n  -H "api-key: $SHOAL_API_KEY"`;
  if (body) line += ` \\\\\n  -d ${quoted(json(body.example ?? {}))}`;
  return line;
}
function operation(method, path, route) {
  const verb = make("b", method.toUpperCase()); verb.className = method;
  const body = route.requestBody?.content["application/json"];
  const inner = [];
  if (route.description) inner.push(make("p", `${route.description}.`));
  inner.push(make("pre", command(method, path, route, body)));
  if (body) inner.push(make("p", "Body: ", link(schemaOf(body), `schema-${schemaOf(body)}`)));
  const told = one => make("li", "", make("code", one.name), ` (${one.in}) ${one.description ?? ""}`);
  if (route.parameters) inner.push(make("h3", "Parameters"), make("ul", "", ...route.parameters.map(told)));
  return fold(make("summary", "", verb, make("code", path), make("span", route.summary)), route.operationId, ...inner);
}
function show(api) {
  document.querySelector("h1").textContent = `${api.info.title} ${api.info.version}`;
  document.querySelector("#about").textContent = api.info.description;
  const routes = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, route]) => [method, path, route]));
  const sections = api.tags.map(({name}) => [name, routes.filter(one => one[2].tags.includes(name))]);
  const heading = (name, text) => { const node = make("h2", text); node.id = name.replaceAll(" ", "-"); return node; };
  document.querySelector("nav").replaceChildren(
    ...[...api.tags.map(tag => tag.name), "bodies"].map(name => link(name, name.replaceAll(" ", "-"))));
  document.querySelector("main").replaceChildren(
    ...sections.flatMap(([name, found]) => [heading(name, name), ...found.map(one => operation(...one))]),
    heading("bodies", "bodies, as JSON Schema"),
    ...Object.entries(api.components.schemas).map(([name, schema]) =>
      fold(make("summary", "", make("code", name)), `schema-${name}`, make("pre", json(schema)))));
  unfold();
}
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") target.open = true;
  target?.scrollIntoView();
}
async function read(key) {
  const form = document.querySelector("form"), main = document.querySelector("main");
  try {
    const answer = await fetch("openapi.json", key ? {headers: {"api-key": key}} : {});
    form.hidden = answer.status !== 401 && answer.status !== 403;
    if (answer.ok) show(await answer.json());
    else main.textContent = await answer.text();
  } catch (error) { main.textContent = `openapi.json can't be read: ${error}`; }
}
document.querySelector("form").addEventListener("submit", event => {
  event.preventDefault(); read(document.querySelector("input").value.trim());
});
addEventListener("hashchange", unfold);
read();
"""
_PAGE = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Shoal: HTTP API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>%b</style>
<h1>Shoal</h1><p id="about"></p>
<form hidden><label>This cluster asks for an API key: <input type="password" autocomplete="off" required></label>
<button>Show</button></form>
<nav></nav><main>Reading <a href="openapi.json">openapi.json</a></main>
<script>%b</script></html>
""" % (_STYLE, _SCRIPT)


def _policy() -> bytes:
    style, script = (b64encode(sha256(text).digest()) for text in (_STYLE, _SCRIPT))
    return (
        b"default-src 'none'; style-src 'sha256-%b'; script-src 'sha256-%b'; connect-src 'self'; base-uri 'none'; "
        b"form-action 'none'; frame-ancestors 'none'" % (style, script)
    )


_HEADERS = ((b"content-security-policy", _policy()), (b"referrer-policy", b"no-referrer"))


async def openapi(context: HttpContext, request: Request) -> Reply:
    """GET /openapi.json"""
    return Reply(orjson.dumps(describe(context.routes, context.shoal_version, bool(context.cluster.state.keys))))


async def docs_page(context: HttpContext, request: Request) -> Reply:
    """GET /docs"""
    return Reply(_PAGE, content_type=_HTML, headers=_HEADERS)
