// An OpenID Connect provider for tests: npm's oidc-provider, with clients that get access tokens as JWTs.
//
// Every client of `CLIENTS` authenticates with its id as secret; its tokens carry the roles named there. The audience is
// the last segment of the `resource` asked for, `health-api` without one.
//
// `viewer` is a page in a browser, with no secret: anybody signs in to it on the provider's own pages, and gets a token
// with the role of a reader.
//
// Programs that send their credentials in the form: `feed`, `fhir` and `stranger` (without a role) with their ids as secrets, `person` for the user
// Ann (password `anns`, RFC 6749 §4.3, which this library leaves to its users), `signer` with an assertion signed by the
// key that /_control was given.
//
// Usage: node server.mjs <directory with node_modules> <port>
// POST /_control {"rotate": "replace"|"add", "alg": "ES256"} changes the signing key, {"down": true} ends all answers but
// this one, {"ttl": seconds} sets the life of tokens, {"jwk": {…}} is the public key of `signer`. GET /_control tells how
// often discovery, keys and tokens were asked for.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [directory, port] = process.argv.slice(2);
const { default: Provider, errors } = await import(
  pathToFileURL(join(directory, 'node_modules', 'oidc-provider', 'lib', 'index.js'))
);

const ISSUER = `http://127.0.0.1:${port}`;
const AUDIENCE = 'health-api';
const CLIENTS = {
  nobody: [],
  reader: ['globalReader'],
  writer: ['globalWriter'],
  deleter: ['globalDeleter'],
  admin: ['globalAdmin'],
  several: ['globalReader', 'GLOBALDELETER', 'unknown'],
};
const VIEWER = {
  client_id: 'viewer',
  application_type: 'native', // so that the port of its address does not count
  token_endpoint_auth_method: 'none',
  grant_types: ['authorization_code'],
  response_types: ['code'],
  redirect_uris: ['http://127.0.0.1/viewer/callback'],
};
const PROGRAMS = {
  feed: { grant_types: ['client_credentials'], token_endpoint_auth_method: 'client_secret_post' },
  fhir: { grant_types: ['client_credentials'], token_endpoint_auth_method: 'client_secret_post' },
  person: { grant_types: ['password'], token_endpoint_auth_method: 'client_secret_post' },
  stranger: { grant_types: ['client_credentials'], token_endpoint_auth_method: 'client_secret_post' },
  signer: { grant_types: ['client_credentials'], token_endpoint_auth_method: 'private_key_jwt' },
};
const ADMIN = ['globalAdmin'];
const ROLES = {
  ...CLIENTS,
  viewer: ['globalReader'],
  feed: ['globalReader'],
  fhir: ADMIN,
  person: ADMIN,
  signer: ADMIN,
  stranger: [],
};
const PASSWORDS = { Ann: 'anns' };
const CURVES = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' };

function newKey(alg) {
  const { privateKey } = CURVES[alg]
    ? generateKeyPairSync('ec', { namedCurve: CURVES[alg] })
    : generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg };
}

const state = { keys: [newKey('RS256')], down: false, ttl: 3600, discoveries: 0, keyRequests: 0, tokenRequests: 0 };
let handle;

function start() {
  const { alg } = state.keys[0];
  const resourceServer = (resource) => ({
    scope: '',
    audience: resource.split(/[:/]/).at(-1),
    accessTokenTTL: state.ttl,
    accessTokenFormat: 'jwt',
    jwt: { sign: { alg } },
  });
  const provider = new Provider(ISSUER, {
    jwks: { keys: state.keys },
    clients: [
      ...Object.keys(CLIENTS).map((id) => ({
        client_id: id,
        client_secret: id,
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        id_token_signed_response_alg: alg,
      })),
      { ...VIEWER, id_token_signed_response_alg: alg },
      ...Object.entries(PROGRAMS).map(([id, metadata]) => ({
        client_id: id,
        ...(metadata.token_endpoint_auth_method === 'private_key_jwt'
          ? { jwks: { keys: state.jwk ? [state.jwk] : [] } }
          : { client_secret: id }),
        redirect_uris: [],
        response_types: [],
        id_token_signed_response_alg: alg,
        ...metadata,
      })),
    ],
    clientBasedCORS: () => true,
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'ES384', 'ES512'] },
    extraTokenClaims: (_, token) => ({ roles: ROLES[token.clientId], role: ROLES[token.clientId][0], name: 'Ann' }),
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        defaultResource: () => `urn:audience:${AUDIENCE}`,
        getResourceServerInfo: (_, resource) => resourceServer(resource),
      },
    },
  });
  const passwordGrant = async (ctx) => {
    const { username, password, resource = `urn:audience:${AUDIENCE}` } = ctx.oidc.params;
    if (!password || PASSWORDS[username] !== password) {
      throw new errors.InvalidGrant('wrong name or password');
    }
    const token = new provider.ClientCredentials({ client: ctx.oidc.client });
    token.resourceServer = new provider.ResourceServer(resource, resourceServer(resource));
    ctx.body = { access_token: await token.save(), expires_in: token.expiration, token_type: token.tokenType };
  };
  provider.registerGrantType('password', passwordGrant, ['username', 'password', 'resource', 'scope']);
  handle = provider.callback();
}

async function control(request, response) {
  if (request.method === 'POST') {
    let body = '';
    for await (const chunk of request) {
      body += chunk;
    }
    const { rotate, alg = 'RS256', down, ttl, jwk } = JSON.parse(body);
    if (rotate) {
      state.keys = rotate === 'add' ? [newKey(alg), ...state.keys] : [newKey(alg)];
    }
    state.down = down ?? state.down;
    state.ttl = ttl ?? state.ttl;
    state.jwk = jwk ?? state.jwk;
    start();
  }
  const { discoveries, keyRequests, tokenRequests } = state;
  response.end(JSON.stringify({ discoveries, keyRequests, tokenRequests }));
}

start();
createServer((request, response) => {
  if (request.url === '/_control') {
    control(request, response);
  } else if (state.down) {
    request.socket.destroy();
  } else {
    state.discoveries += request.url.startsWith('/.well-known/') ? 1 : 0;
    state.keyRequests += request.url === '/jwks' ? 1 : 0;
    state.tokenRequests += request.url === '/token' ? 1 : 0;
    handle(request, response);
  }
}).listen(Number(port), '127.0.0.1');
