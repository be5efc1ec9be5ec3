// Makes the app's hand-off key pair and prints the commands that install it on both sides.
import { createHash, generateKeyPairSync } from 'node:crypto';

const { privateKey } = generateKeyPairSync('ed25519');
const { kty, crv, x, d } = privateKey.export({ format: 'jwk' });
const kid = createHash('sha256').update(JSON.stringify({ crv, kty, x })).digest('base64url');
const publicJwks = JSON.stringify({ keys: [{ kty, crv, x, kid, alg: 'EdDSA', use: 'sig' }] });

console.log(`# A new hand-off key pair (kid ${kid}). Nothing was written to disk.

# 1. The private half, into the Forge app (encrypted; run in this folder, once per environment):
forge variables set --encrypt HANDOFF_PRIVATE_KEY '${JSON.stringify({ kty, crv, x, d })}'

# 2. The public half, into the backend: the parameter ForgeAppPublicKey of the stack, which is
${publicJwks}
# In samconfig.toml, under [default.deploy.parameters]:
parameter_overrides = 'ForgeAppPublicKey=${JSON.stringify(publicJwks)}'
# or, for a stack that is deployed already, in the folder above:
sam deploy --parameter-overrides 'ForgeAppPublicKey=${JSON.stringify(publicJwks)}'

# 3. So that the new variable reaches the app:
forge deploy
# A terminal keeps what it printed: clear its history.`);
