// Generates the app's hand-off key pair, and prints the commands that install it on both sides. Needs neither of them.
import { createHash, generateKeyPairSync } from 'node:crypto';

// Encoded by the generator: Node 20 can deadlock when a generated KeyObject is exported as a JWK.
const encoding = { format: 'jwk' };
const { privateKey } = generateKeyPairSync('ed25519', { privateKeyEncoding: encoding, publicKeyEncoding: encoding });
const { kty, crv, x, d } = privateKey;
const kid = createHash('sha256').update(JSON.stringify({ crv, kty, x })).digest('base64url');
const publicJwks = JSON.stringify({ keys: [{ kty, crv, x, kid, alg: 'EdDSA', use: 'sig' }] });

console.log(`# A new hand-off key pair, kid ${kid}. Nothing was written to disk.

# 1. The public half is for the backend. In the folder of the backend's repository, run
sam build && sam deploy --guided
# At "Parameter ForgeAppPublicKey" paste this line, and let SAM save your input to samconfig.toml, so that later
# deployments keep it. To replace the key of a running backend, press Enter at every other prompt, and add
# --config-env <name> if you deployed with it:
${publicJwks}

# 2. The private half is for the Forge app: encrypted, in the app's folder, once per environment (-e staging).
forge variables set --encrypt HANDOFF_PRIVATE_KEY '${JSON.stringify({ kty, crv, x, d })}'
# Set BACKEND_URL and BACKEND_PUBLIC_KEY as well, which you have after step 1 (docs/forge.md); then:
forge deploy

# A backend under "make watch" takes the public half as its environment variable FORGE_APP_PUBLIC_KEY instead.
# Replacing the key of a running app: between the two steps registrations are refused; checks and reports continue.
# The private key is in your terminal's history now: clear it.`);
