// A district's OpenID provider for the tests: panva's oidc-provider, with its own page for the login.
//
// node provider.mjs SETTINGS, a JSON file: {modules, port, certificate, key, client_secret, redirect_uri, client_id,
// claims_in_id_token, state}. `state` is a JSON file that is read again at every request:
// {accounts: {id: {preferred_username, name, groups}}, fault: "" | "silent" | "huge" | "plain"}. Keys are made at the start, so a
// provider that is started again has others.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const state = () => JSON.parse(readFileSync(settings.state, 'utf8'));
const library = join(settings.modules, 'oidc-provider/lib/index.js');
const { Provider } = await import(pathToFileURL(library));

const issuer = `https://localhost:${settings.port}`;
const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
const provider = new Provider(issuer, {
  clients: [{
    client_id: settings.client_id,
    client_secret: settings.client_secret,
    redirect_uris: [settings.redirect_uri],
  }],
  jwks: { keys: [{ ...key, kid: randomUUID(), use: 'sig', alg: 'RS256' }] },
  pkce: { methods: ['S256'], required: () => true },
  scopes: ['openid', 'profile', 'groups'],
  claims: { openid: ['sub'], profile: ['preferred_username', 'name'], groups: ['groups'] },
  conformIdTokenClaims: !settings.claims_in_id_token,
  cookies: { keys: [randomUUID()] },
  features: { devInteractions: { enabled: false } },
  ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  async findAccount(_, id) {
    const claims = state().accounts[id];
    return claims && { accountId: id, claims: async () => ({ ...claims, sub: id }) };
  },
  // The hub is the district's own: nobody is asked whether they agree.
  async loadExistingGrant(ctx) {
    const { client, session } = ctx.oidc;
    const grant = new ctx.oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid profile groups');
    await grant.save();
    return grant;
  },
});
provider.on('server_error', (_, error) => console.error(error));

async function body(request) {
  let text = '';
  for await (const part of request) text += part;
  return new URLSearchParams(text);
}

async function interaction(request, response) {
  if (request.method !== 'POST') {
    await provider.interactionDetails(request, response);
    response.setHeader('content-type', 'text/html');
    response.end('<form method="post"><input name="account"><button>Sign in</button></form>');
    return;
  }
  const form = await body(request);
  const account = form.get('account');
  await provider.interactionFinished(request, response, account
    ? { login: { accountId: account } }
    : { error: 'access_denied', error_description: 'changed their mind' });
}

const callback = provider.callback();
const tls = { cert: readFileSync(settings.certificate), key: readFileSync(settings.key) };
createServer(tls, (request, response) => {
  const { fault } = state();
  if (fault === 'silent') return;
  if (fault === 'huge') {
    response.setHeader('content-type', 'application/json');
    const more = () => { while (response.write('['.repeat(65536))); };
    response.on('drain', more);
    more();
    return;
  }
  if (fault === 'plain' && request.url.endsWith('/openid-configuration')) {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({
      issuer, authorization_endpoint: 'http://localhost/auth', token_endpoint: `${issuer}/token`,
      jwks_uri: `${issuer}/jwks`, response_types_supported: ['code'], subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['RS256'],
    }));
    return;
  }
  if (request.url.startsWith('/interaction/')) {
    interaction(request, response).catch((error) => { response.statusCode = 500; response.end(String(error)); });
  } else {
    callback(request, response);
  }
}).listen(settings.port, '127.0.0.1');
