/**
 * What makes the bundle start quickly: it loads what a command uses, when it uses it. The code is the same; only when
 * modules of Node.js and parts of undici are loaded differs. Text of undici that is no longer there is an error.
 */
import { constants as http2Constants } from "node:http2";
import type { Plugin } from "rolldown";

/** Not worth a detour: every command needs them, or they cost nothing. */
const always = new Set([
  "assert",
  "buffer",
  "crypto",
  "diagnostics_channel",
  "events",
  "fs",
  "fs/promises",
  "path",
  "process",
  "stream",
  "timers/promises",
  "url",
  "util",
]);

/**
 * Modules of Node.js are loaded when something of them is used first: TLS, zlib and child processes take a millisecond
 * or several each. An import's name becomes an object that loads the module when a property is asked for.
 */
export function laterBuiltins(): Plugin {
  const declared = /\b(const|let) (\w+)\s*=\s*require\(\s*["'`]node:([\w/]+)["'`]\s*\);/g;
  // Where a dependency imports a module's default, the bundler wraps the module: it would copy the names of an empty object.
  const wrapped = /\b(\w+)\s*=\s*__toESM\(\s*\1\s*(?:,\s*1\s*)?\);/g;
  const helper = `const loadLater=(name,module)=>new Proxy({},{get:(_,key)=>(module??=require(name),key==="default"?module:module[key])});`;
  return {
    name: "modules of Node.js when they are used",
    renderChunk(code) {
      const names = new Set<string>();
      const declaredLater = code.replace(declared, (all, kind: string, name: string, module: string) => {
        if (!always.has(module)) names.add(name);
        if (module === "assert") return `${kind} ${name}=(holds,message)=>{if(!holds)require("node:assert")(holds,message)};`;
        return always.has(module) ? all : `${kind} ${name}=loadLater("node:${module}");`;
      });
      const later = declaredLater.replace(wrapped, (all, name: string) => (names.has(name) ? "" : all));
      for (const name of names) {
        if (new RegExp(`__toESM\\(\\s*${name}\\b`).test(later))
          throw new Error(`the bundler wraps ${name} in a way that is not known here`);
      }
      return later === code ? undefined : { code: `${helper}${later}` };
    },
  };
}

const dispatchers = "\0undici-dispatchers";

/** What undici's index does for these names, in version 8. A name that is missing here is an error of the bundler. */
const dispatchersModule = `
import Dispatcher from "undici/lib/dispatcher/dispatcher.js";
import api from "undici/lib/api/index.js";
import { getGlobalDispatcher } from "undici/lib/global.js";
import util from "undici/lib/core/util.js";
export { default as Agent } from "undici/lib/dispatcher/agent.js";
export { default as Pool } from "undici/lib/dispatcher/pool.js";
export { default as ProxyAgent } from "undici/lib/dispatcher/proxy-agent.js";
Object.assign(Dispatcher.prototype, api);
export function request(url, { dispatcher = getGlobalDispatcher(), ...options } = {}) {
  const { origin, pathname, search } = util.parseURL(url);
  return dispatcher.request({ ...options, origin, path: pathname + search, method: options.method || (options.body ? "PUT" : "GET") });
}
`;

/** HTTP/2's names of headers, which undici reads when it is loaded; the rest is loaded with the first connection. */
const http2 = `{ connect: (...args) => require('node:http2').connect(...args), constants: ${JSON.stringify(
  Object.fromEntries(Object.entries(http2Constants).filter(([name]) => /^(HTTP2_HEADER|NGHTTP2)_/.test(name))),
)} }`;

/** Text of undici's modules and what stands in its place. */
const replaced: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  "lib/dispatcher/client-h2.js": [["http2 = require('node:http2')", `http2 = ${http2}`]],
  "lib/dispatcher/client.js": [["http.maxHeaderSize &&\n  Number.isInteger(http.maxHeaderSize) &&\n  http.maxHeaderSize > 0", "true"]],
  // Its other parser of HTTP/1, an experiment that an option of a client switches on; none of ours does.
  "lib/dispatcher/parser-h1.js": [
    ["miloPackage = require('../milo/simd.js')", "throw new Error('left out')"],
    ["require('../milo/no-simd.js')", "undefined"],
  ],
  "lib/core/util.js": [
    ["const { IncomingMessage } = require('node:http')", ""],
    [
      "if (Object.getPrototypeOf(stream).constructor === IncomingMessage)",
      "const { constructor } = Object.getPrototypeOf(stream)\n    if (constructor?.name === 'IncomingMessage' && constructor === require('node:http').IncomingMessage)",
    ],
  ],
};

/**
 * Our modules import undici's dispatchers; its index would load fetch, WebSocket, caches and mocks as well. Whoever wants
 * fetch imports undici when it is called (`await import("undici")`), and gets the whole.
 */
export function undiciDispatchers(root: string): Plugin {
  return {
    name: "undici's dispatchers",
    resolveId(name, importer, { kind }) {
      const ours = importer?.startsWith(root) === true && !importer.includes("/node_modules/");
      return name === "undici" && ours && kind === "import-statement" ? dispatchers : undefined;
    },
    load: (id) => (id === dispatchers ? { code: dispatchersModule, moduleType: "js" } : undefined),
    transform(code, id) {
      const changes = Object.entries(replaced).find(([suffix]) => id.endsWith(`/node_modules/undici/${suffix}`))?.[1];
      if (changes === undefined) return undefined;
      return changes.reduce((text, [from, to]) => {
        if (!text.includes(from)) throw new Error(`${id} no longer says ${from}`);
        return text.replace(from, () => to);
      }, code);
    },
  };
}
